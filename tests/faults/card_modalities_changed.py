"""Our card says more audio than the record has."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_card


def break_(directory: Path) -> None:
    edit_card(directory, lambda text: text.replace("audio 24", "audio 42"))


FAULT = Fault("model-card", "README.md", "card", break_, alone=False)
