"""An expression of the ignore list repeats a million times: compiling it takes the memory."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["ignore"].append("re:((a{1000}){1000}){1000}"))


FAULT = Fault("declaration", f"{CONFIG}.ignore", "configuration", break_, base="ct-w4a4")
