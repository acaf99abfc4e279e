"""The ignore list forgets lm_head."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["ignore"].remove("thinker.lm_head"))


FAULT = Fault("declared-storage", "thinker.lm_head.weight", "configuration", break_, base="ct-w4a4")
