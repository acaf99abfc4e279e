"""Tensors without the prefix `thinker.`, as an export of the thinker alone has them."""

from pathlib import Path

from _checkpoint_edit import Fault, read, write

from pytest_q3omni.omni.checkpoint import scan


def break_(directory: Path) -> None:
    names = [name for name in scan(directory).entries if name.startswith("thinker.")]
    renamed = {name.removeprefix("thinker."): read(directory, name) for name in names}
    write(directory, {**dict.fromkeys(names), **renamed})


FAULT = Fault("names", "model.", "other stages", break_)
