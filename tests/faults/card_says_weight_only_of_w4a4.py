"""A card says weight-only, and inputs are quantized."""

from pathlib import Path

from _checkpoint_edit import Fault, write_card


def break_(directory: Path) -> None:
    write_card(directory, "Scheme: W4A16")


FAULT = Fault("model-card", "README.md", "card", break_, base="ct-w4a4")
