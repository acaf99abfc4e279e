"""An entry of the ignore list is no regular expression."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["ignore"].append("re:(unclosed"))


FAULT = Fault("declaration", f"{CONFIG}.ignore", "configuration", break_, base="ct-w4a4")
