"""The ignore list forgets the audio tower: its Linears are declared packed."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(
        directory, lambda block: block.update(ignore=[entry for entry in block["ignore"] if "audio_tower" not in entry])
    )


FAULT = Fault("declared-storage", "thinker.audio_tower.", "configuration", break_, base="ct-w4a4")
