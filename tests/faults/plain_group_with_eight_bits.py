"""The config group beside a plain NVFP4 algorithm says eight bits."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["config_groups"]["group_0"]["weights"].update(num_bits=8))


FAULT = Fault(
    "declaration", f"{CONFIG}.config_groups.group_0.weights.num_bits", "configuration", break_, base="plain-nvfp4"
)
