"""A card says a size that the files do not have."""

from pathlib import Path

from _checkpoint_edit import Fault, write_card


def break_(directory: Path) -> None:
    write_card(directory, "Checkpoint size: 16 GB")


FAULT = Fault("model-card", "README.md", "card", break_)
