"""The status is `frozen`: calibrated, never compressed."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block.update(quantization_status="frozen"))


FAULT = Fault("declaration", f"{CONFIG}.quantization_status", "configuration", break_, base="ct-w4a4")
