"""A card says 3x smaller, and it is 1.22x."""

from pathlib import Path

from _checkpoint_edit import Fault, write_card


def break_(directory: Path) -> None:
    write_card(directory, "About 3.0x smaller on disk.")


FAULT = Fault("model-card", "README.md", "card", break_)
