"""The bytes of every 32-bit word are in the other order: packed on another machine."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight"
    write(
        directory,
        {
            name: read(directory, name)
            .reshape(len(read(directory, name)), -1, 4)[:, :, ::-1]
            .reshape(read(directory, name).shape)
            .copy()
        },
    )


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight", "packing", break_, alone=False)
