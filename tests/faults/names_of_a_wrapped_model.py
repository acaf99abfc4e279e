"""Every tensor has the prefix `module.` of a wrapped model."""

from pathlib import Path

from _checkpoint_edit import Fault, write_file

from pytest_q3omni.omni.checkpoint import scan


def break_(directory: Path) -> None:
    checkpoint = scan(directory)
    names = list(checkpoint.entries)
    renamed = {f"module.{name}": checkpoint.array(name) for name in names}
    write_file(directory / "model.safetensors", renamed)


FAULT = Fault("names", "module.thinker", "other stages", break_)
