"""Plain NVFP4 whose ignore list forgets the vocoder."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["ignore"].remove("code2wav*"))


FAULT = Fault("declared-storage", "code2wav.", "configuration", break_, base="plain-nvfp4")
