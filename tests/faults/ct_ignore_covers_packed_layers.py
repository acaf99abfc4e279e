"""A regular expression of the ignore list covers packed layers: engines build them for BF16."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["ignore"].append(r"re:.*layers\.1\..*"))


FAULT = Fault("ignore-list", f"{CONFIG}.ignore", "configuration", break_, base="ct-w4a4")
