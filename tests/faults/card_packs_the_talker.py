"""Our card says that the talker's experts are packed."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_card


def break_(directory: Path) -> None:
    edit_card(
        directory, lambda text: text.replace("| none | attention, codec head", "| experts | attention, codec head")
    )


FAULT = Fault("model-card", "README.md", "card", break_)
