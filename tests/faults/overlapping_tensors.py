"""Two tensors claim the same bytes."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, edit_header


def break_(directory: Path) -> None:
    def overlap(header: dict) -> None:
        first, second = f"{EXPERT}.gate_proj.weight", f"{EXPERT}.up_proj.weight"
        header[first]["data_offsets"] = header[second]["data_offsets"]

    edit_header(directory, overlap)


FAULT = Fault("container", "model.safetensors", "files", break_)
