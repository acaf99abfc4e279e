"""A card says that the model is quantized with AWQ, and never speaks of NVFP4."""

from pathlib import Path

from _checkpoint_edit import Fault, write_card


def break_(directory: Path) -> None:
    write_card(directory, "This model is quantized with AWQ.")


FAULT = Fault("model-card", "README.md", "card", break_)
