"""hf_quant_config.json excludes the attention that config.json declares packed."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory,
        "hf_quant_config.json",
        lambda content: content["quantization"]["exclude_modules"].append("*self_attn*"),
    )


FAULT = Fault("hf-quant-config", "hf_quant_config.json", "configuration", break_, base="plain-nvfp4")
