"""Quantized inputs are declared, and no layer has an input scale."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_group


def break_(directory: Path) -> None:
    edit_group(directory, lambda group: group.update(input_activations={**group["weights"], "dynamic": "local"}))


FAULT = Fault("scales-present", "input_global_scale", "configuration", break_, base="ct-w4a16")
