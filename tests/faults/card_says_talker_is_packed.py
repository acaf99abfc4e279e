"""A card says that the talker is 4-bit, and it is BF16."""

from pathlib import Path

from _checkpoint_edit import Fault, write_card


def break_(directory: Path) -> None:
    write_card(directory, "Talker: 4-bit weights")


FAULT = Fault("model-card", "README.md", "card", break_)
