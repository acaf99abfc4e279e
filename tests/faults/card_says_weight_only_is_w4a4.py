"""Our card says W4A4 of a weight-only checkpoint."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_card


def break_(directory: Path) -> None:
    edit_card(directory, lambda text: text.replace("W4A16", "W4A4"))


FAULT = Fault("model-card", "README.md", "card", break_, base="nvfp4-mlp-weight-only")
