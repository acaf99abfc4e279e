"""Plain NVFP4 whose ignore list forgets the talker."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["ignore"].remove("talker*"))


FAULT = Fault("declared-storage", "talker.", "configuration", break_, base="plain-nvfp4")
