"""Everything is declared weight-only, though calibrated input scales are stored for all of it."""

from pathlib import Path
from typing import Any

from _checkpoint_edit import Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, _weight_only)
    (directory / "README.md").unlink()  # it says W4A4


def _weight_only(block: dict[str, Any]) -> None:
    for entry in block["quantized_layers"].values():
        entry["quant_algo"] = "W4A16_NVFP4"


FAULT = Fault("input-scales", "input_scale", "configuration", break_, severity="warning")
