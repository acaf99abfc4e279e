"""FP8 weights are declared in blocks of 128 x 128, and have one scale."""

from pathlib import Path

from _checkpoint_edit import GROUP, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(
        directory,
        lambda block: block["config_groups"]["group_0"]["weights"].update(strategy="block", block_structure=[128, 128]),
    )


FAULT = Fault("declaration", f"{GROUP}.weights", "configuration", break_, base="ct-mixed")
