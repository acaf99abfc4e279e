"""Two-of-four sparsity is declared over dense weights."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(
        directory, lambda block: block.update(sparsity_config={"format": "sparse-24-bitmask", "targets": ["Linear"]})
    )


FAULT = Fault("declaration", f"{CONFIG}.sparsity_config", "configuration", break_, base="ct-w4a4")
