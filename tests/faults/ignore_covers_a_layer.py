"""An ignore entry is a substring of packed layers: vLLM builds them for BF16."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["ignore"].append("thinker.model.layers.1"))


FAULT = Fault("ignore-list", f"{CONFIG}.ignore", "configuration", break_)
