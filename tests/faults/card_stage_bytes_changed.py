"""Our card says fewer bytes of the thinker."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_card


def break_(directory: Path) -> None:
    edit_card(directory, lambda text: text.replace("1,448,256", "1,148,256"))


FAULT = Fault("model-card", "README.md", "card", break_)
