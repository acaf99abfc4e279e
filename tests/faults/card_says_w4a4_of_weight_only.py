"""A card says W4A4 of a weight-only checkpoint."""

from pathlib import Path

from _checkpoint_edit import Fault, write_card


def break_(directory: Path) -> None:
    write_card(directory, "Format: W4A4")


FAULT = Fault("model-card", "README.md", "card", break_, base="ct-w4a16")
