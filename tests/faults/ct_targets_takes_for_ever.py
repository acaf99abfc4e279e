"""A target is an expression that backtracks for years."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_group


def break_(directory: Path) -> None:
    edit_group(directory, lambda group: group["targets"].append("re:(?:..|.|...)*[XYZ]"))


FAULT = Fault("declaration", f"{CONFIG}.config_groups", "configuration", break_, base="ct-w4a4")
