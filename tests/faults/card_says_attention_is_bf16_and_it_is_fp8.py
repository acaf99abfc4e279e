"""A card says BF16 of attention that is FP8."""

from pathlib import Path

from _checkpoint_edit import Fault, write_card


def break_(directory: Path) -> None:
    write_card(directory, "Self-attention weights are bfloat16.")


FAULT = Fault("model-card", "README.md", "card", break_, base="ct-mixed")
