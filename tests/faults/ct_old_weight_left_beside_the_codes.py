"""The BF16 weight is still there beside its codes."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, original, write


def break_(directory: Path) -> None:
    write(directory, {f"{EXPERT}.down_proj.weight": original(f"{EXPERT}.down_proj.weight")})


FAULT = Fault("names", f"{EXPERT}.down_proj.weight", "silent non-quantization", break_, base="ct-w4a4")
