"""A second config group declares FP8 for experts that the first one packs, and comes first."""

from pathlib import Path
from typing import Any

from _checkpoint_edit import Fault, edit_quantization

FP8 = {"num_bits": 8, "type": "float", "strategy": "tensor", "symmetric": True, "dynamic": False}


def _add(block: dict[str, Any]) -> None:
    group = {"targets": [r"re:.*mlp\.experts.*"], "weights": FP8, "input_activations": FP8, "format": "float-quantized"}
    block["config_groups"] = {"group_a": group, **block["config_groups"]}


def break_(directory: Path) -> None:
    edit_quantization(directory, _add)


FAULT = Fault("declared-storage", ".mlp.experts.", "configuration", break_, base="ct-w4a4")
