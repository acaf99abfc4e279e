"""gate and up of an expert have exchanged their block scales."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    first, second = f"{EXPERT}.gate_proj.weight_scale", f"{EXPERT}.up_proj.weight_scale"
    write(directory, {first: read(directory, second), second: read(directory, first)})


FAULT = Fault("packed-weights", f"{EXPERT}.", "scales", break_, alone=False)
