"""Our card says another number of parameters."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_card


def break_(directory: Path) -> None:
    edit_card(directory, lambda text: text.replace("1,946,121 parameters", "1,964,121 parameters"))


FAULT = Fault("model-card", "README.md", "card", break_)
