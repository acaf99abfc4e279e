"""Layers declared with blocks of 32: no serving kernel takes them."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_quantization


def break_(directory: Path) -> None:
    def change(block: dict) -> None:
        for entry in block["quantized_layers"].values():
            entry["group_size"] = 32

    edit_quantization(directory, change)


FAULT = Fault("declaration", "group_size", "configuration", break_)
