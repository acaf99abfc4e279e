"""Plain NVFP4 with the names of a thinker that was exported alone: substrings still match, patterns do not."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(
        directory, lambda block: block.update(ignore=[entry.removeprefix("thinker.") for entry in block["ignore"]])
    )


FAULT = Fault("declared-storage", "thinker.", "configuration", break_, base="plain-nvfp4")
