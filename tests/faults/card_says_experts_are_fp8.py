"""A card says that the experts are FP8, and they are NVFP4."""

from pathlib import Path

from _checkpoint_edit import Fault, write_card


def break_(directory: Path) -> None:
    write_card(directory, "MoE experts in FP8.")


FAULT = Fault("model-card", "README.md", "card", break_)
