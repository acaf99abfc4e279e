"""Every block scale of gate and up of one expert is half of what it was, and no source tells."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    for projection in ("gate", "up"):
        name = f"{EXPERT}.{projection}_proj.weight_scale"
        scales = read(directory, name)
        write(directory, {name: (scales.view("u1") - 8).view(scales.dtype)})


FAULT = Fault("code-patterns", EXPERT, "scales", break_, base="ct-w4a16", given=())
