"""The ignore list has the names of a thinker that was exported alone."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(
        directory, lambda block: block.update(ignore=[entry.removeprefix("thinker.") for entry in block["ignore"]])
    )


FAULT = Fault("declared-storage", "thinker.", "configuration", break_, base="ct-w4a4")
