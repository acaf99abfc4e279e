"""Two layers have each other's input scales."""

from pathlib import Path

from _checkpoint_edit import LAYER, OTHER_LAYER, Fault, read, write


def break_(directory: Path) -> None:
    names = [f"{layer}.self_attn.o_proj.input_scale" for layer in (LAYER, OTHER_LAYER)]
    first, second = (read(directory, name) for name in names)
    write(directory, {names[0]: second, names[1]: first})


FAULT = Fault("recorded-input-scales", ".self_attn.o_proj.input_scale", "calibration", break_)
