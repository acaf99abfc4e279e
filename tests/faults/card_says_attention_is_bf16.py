"""A card says that attention stays unquantized, and it is packed."""

from pathlib import Path

from _checkpoint_edit import Fault, write_card


def break_(directory: Path) -> None:
    write_card(directory, "Attention layers stay unquantized; everything else is 4-bit.")


FAULT = Fault("model-card", "README.md", "card", break_)
