"""The card was copied from the BF16 original: it says nothing of the quantization."""

import shutil
from pathlib import Path

from _checkpoint_edit import Fault, write_card

from pytest_q3omni.omni.tiny import checkpoint_path


def break_(directory: Path) -> None:
    write_card(directory, "")
    shutil.copy(checkpoint_path() / "README.md", directory / "README.md")


FAULT = Fault("model-card", "README.md", "card", break_, given=("source",), alone=False, severity="warning")
