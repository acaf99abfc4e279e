"""The unpacked weight is still there under another name."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, original, write


def break_(directory: Path) -> None:
    write(directory, {f"{EXPERT}.down_proj.weight_bf16": original(f"{EXPERT}.down_proj.weight")})


FAULT = Fault("names", f"{EXPERT}.down_proj.weight_bf16", "silent non-quantization", break_)
