"""One expert is BF16, and the config says that every Linear is packed."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, unpack_compressed


def break_(directory: Path) -> None:
    for name in ("gate_proj", "up_proj", "down_proj"):
        unpack_compressed(directory, f"{EXPERT}.{name}")


FAULT = Fault("declared-storage", f"{EXPERT}.", "silent non-quantization", break_, base="ct-w4a4")
