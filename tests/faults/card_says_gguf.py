"""A card's title says GGUF."""

from pathlib import Path

from _checkpoint_edit import Fault, write_card


def break_(directory: Path) -> None:
    write_card(directory, "# Qwen3-Omni-30B-A3B-GGUF\n\nFor llama.cpp.")


FAULT = Fault("model-card", "README.md", "card", break_)
