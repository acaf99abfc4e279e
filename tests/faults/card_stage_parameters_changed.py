"""Our card says other parameters of the vocoder."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_card


def break_(directory: Path) -> None:
    edit_card(directory, lambda text: text.replace("284,873 |", "284,837 |"))


FAULT = Fault("model-card", "README.md", "card", break_)
