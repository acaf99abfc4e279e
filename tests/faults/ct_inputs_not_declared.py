"""No quantized inputs are declared, and every layer has an input scale: engines drop it."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_group


def break_(directory: Path) -> None:
    edit_group(directory, lambda group: group.update(input_activations=None))
    (directory / "README.md").unlink()  # it says W4A4


FAULT = Fault(
    "input-scales", "input_global_scale", "configuration", break_, base="ct-w4a4", given=("source",), severity="warning"
)
