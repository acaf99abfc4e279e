"""The config group beside a plain NVFP4 algorithm says integers."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(
        directory, lambda block: block["config_groups"]["group_0"]["input_activations"].update(type="int")
    )


FAULT = Fault(
    "declaration", f"{CONFIG}.config_groups.group_0.input_activations.type", "configuration", break_, base="plain-nvfp4"
)
