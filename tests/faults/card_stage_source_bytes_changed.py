"""Our card says more bytes of the original thinker."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_card


def break_(directory: Path) -> None:
    edit_card(directory, lambda text: text.replace("2,154,368", "2,454,368"))


FAULT = Fault("model-card", "README.md", "card", break_)
