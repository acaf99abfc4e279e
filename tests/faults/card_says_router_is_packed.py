"""A card says that the routers are FP4, and they are BF16."""

from pathlib import Path

from _checkpoint_edit import Fault, write_card


def break_(directory: Path) -> None:
    write_card(directory, "Routers are stored as FP4.")


FAULT = Fault("model-card", "README.md", "card", break_)
