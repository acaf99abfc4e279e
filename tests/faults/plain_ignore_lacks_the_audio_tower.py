"""Plain NVFP4 whose ignore list forgets the audio tower."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["ignore"].remove("thinker.audio_tower*"))


FAULT = Fault("declared-storage", "thinker.audio_tower.", "configuration", break_, base="plain-nvfp4")
