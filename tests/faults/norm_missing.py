"""A norm is missing."""

from pathlib import Path

from _checkpoint_edit import LAYER, Fault, write


def break_(directory: Path) -> None:
    write(directory, {f"{LAYER}.post_attention_layernorm.weight": None})


FAULT = Fault("names", f"{LAYER}.post_attention_layernorm.weight", "other stages", break_)
