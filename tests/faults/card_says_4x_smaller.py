"""A card says 4x smaller, which NVFP4 cannot reach."""

from pathlib import Path

from _checkpoint_edit import Fault, write_card


def break_(directory: Path) -> None:
    write_card(directory, "This checkpoint is 4x smaller.")


FAULT = Fault("model-card", "README.md", "card", break_)
