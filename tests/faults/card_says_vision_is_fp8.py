"""A card says that the vision encoder is FP8, and it is BF16."""

from pathlib import Path

from _checkpoint_edit import Fault, write_card


def break_(directory: Path) -> None:
    write_card(directory, "| Component | Format |\n|---|---|\n| Vision encoder | FP8 |\n")


FAULT = Fault("model-card", "README.md", "card", break_)
