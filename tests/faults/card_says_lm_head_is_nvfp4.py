"""A card says that lm_head is packed, and it is BF16."""

from pathlib import Path

from _checkpoint_edit import Fault, write_card


def break_(directory: Path) -> None:
    write_card(directory, "The lm_head is quantized to NVFP4.")


FAULT = Fault("model-card", "README.md", "card", break_)
