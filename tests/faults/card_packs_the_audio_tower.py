"""Our card lists the audio tower among the packed parts."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_card


def break_(directory: Path) -> None:
    edit_card(directory, lambda text: text.replace("attention, experts |", "attention, audio tower, experts |"))


FAULT = Fault("model-card", "README.md", "card", break_)
