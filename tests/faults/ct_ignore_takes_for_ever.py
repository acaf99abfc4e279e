"""An expression of the ignore list backtracks for years."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["ignore"].append("re:(?:..|.|...)*[XYZ]"))


FAULT = Fault("declaration", f"{CONFIG}.ignore", "configuration", break_, base="ct-w4a4")
