"""A card says that the model is quantized to FP8, and it is NVFP4."""

from pathlib import Path

from _checkpoint_edit import Fault, write_card


def break_(directory: Path) -> None:
    write_card(directory, "Quantized to FP8 for fast inference.")


FAULT = Fault("model-card", "README.md", "card", break_)
