"""The index is the BF16 original's: it lists none of the scales."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json

from pytest_q3omni.omni.checkpoint import scan


def break_(directory: Path) -> None:
    checkpoint = scan(directory)
    scales = ("weight_scale", "weight_scale_2", "input_scale")
    weight_map = {name: entry.file.name for name, entry in checkpoint.entries.items() if not name.endswith(scales)}
    edit_json(directory, "model.safetensors.index.json", lambda index: index.update(weight_map=weight_map))


FAULT = Fault("index", ".weight_scale", "files", break_, base="sharded")
