"""A card says that the experts are BF16, and they are packed."""

from pathlib import Path

from _checkpoint_edit import Fault, write_card


def break_(directory: Path) -> None:
    write_card(directory, "The experts are kept in BF16.")


FAULT = Fault("model-card", "README.md", "card", break_)
