"""An entry of the header has two dtypes; readers differ in which one they take."""

from pathlib import Path

from _checkpoint_edit import Fault, replace_header

NAME = "thinker.model.norm.weight"


def break_(directory: Path) -> None:
    file = directory / "model.safetensors"
    raw = file.read_bytes()
    header = raw[8 : 8 + int.from_bytes(raw[:8], "little")]
    place = header.index(NAME.encode()) + len(NAME) + 4
    replace_header(file, header[:place] + b'"dtype":"F32",' + header[place:])


FAULT = Fault("container", "model.safetensors", "files", break_)
