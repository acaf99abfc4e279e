"""Hadamard transforms are declared, and the weights are those of a plain model."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(
        directory,
        lambda block: block.update(transform_config={"config_groups": {"R1": {"type": "hadamard", "apply": []}}}),
    )


FAULT = Fault("declaration", f"{CONFIG}.transform_config", "configuration", break_, base="ct-w4a4")
