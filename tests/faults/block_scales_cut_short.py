"""A row of block scales is missing: vLLM copies what is there and leaves the rest."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_scale"
    write(directory, {name: read(directory, name)[:-1]})


FAULT = Fault("shapes", f"{EXPERT}.down_proj.weight_scale", "scales", break_)
