"""A card says that the KV cache is BF16, and the config declares FP8."""

from pathlib import Path

from _checkpoint_edit import Fault, write_card


def break_(directory: Path) -> None:
    write_card(directory, "The KV cache is BF16.")


FAULT = Fault("model-card", "README.md", "card", break_, base="fp8-kv")
