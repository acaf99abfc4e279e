"""Our card says weight-only, and inputs are quantized."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_card


def break_(directory: Path) -> None:
    edit_card(directory, lambda text: text.replace("W4A4", "W4A16"))


FAULT = Fault("model-card", "README.md", "card", break_)
