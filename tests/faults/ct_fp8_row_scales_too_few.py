"""An FP8 weight has scales for half of its rows."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.q_proj.weight_scale"
    write(directory, {name: read(directory, name)[:64]})


FAULT = Fault("shapes", f"{ATTENTION}.q_proj.weight_scale", "scales", break_, base="ct-mixed-dynamic")
