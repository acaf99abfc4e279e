"""Our card says more conversations than the record has."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_card


def break_(directory: Path) -> None:
    edit_card(directory, lambda text: text.replace("60 of 60", "600 of 600"))


FAULT = Fault("model-card", "README.md", "card", break_, alone=False)
