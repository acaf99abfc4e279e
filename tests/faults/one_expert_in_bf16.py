"""One expert of a layer declared NVFP4 is stored in BF16."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, unpack


def break_(directory: Path) -> None:
    for projection in ("gate_proj", "up_proj", "down_proj"):
        unpack(directory, f"{EXPERT}.{projection}")


FAULT = Fault("declared-storage", f"{EXPERT}.down_proj.weight", "silent non-quantization", break_)
