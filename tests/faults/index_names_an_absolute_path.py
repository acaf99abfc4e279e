"""The index names a file of the system."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json

NAME = "thinker.model.norm.weight"


def break_(directory: Path) -> None:
    edit_json(
        directory, "model.safetensors.index.json", lambda index: index["weight_map"].update({NAME: "/etc/passwd"})
    )


FAULT = Fault("container", "/etc/passwd", "files", break_, base="sharded")
