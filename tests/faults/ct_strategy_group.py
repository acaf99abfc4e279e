"""The strategy is `group`: no global scale is read."""

from pathlib import Path

from _checkpoint_edit import GROUP, Fault, edit_group


def break_(directory: Path) -> None:
    edit_group(directory, lambda group: group["weights"].update(strategy="group"))


FAULT = Fault("declaration", f"{GROUP}.weights.strategy", "configuration", break_, base="ct-w4a4")
