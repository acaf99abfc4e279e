"""A card says that the audio tower is NVFP4, and it is BF16."""

from pathlib import Path

from _checkpoint_edit import Fault, write_card


def break_(directory: Path) -> None:
    write_card(directory, "- Audio tower: NVFP4")


FAULT = Fault("model-card", "README.md", "card", break_)
