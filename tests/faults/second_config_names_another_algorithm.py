"""hf_quant_config.json says W4A16_NVFP4, config.json NVFP4."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory, "hf_quant_config.json", lambda content: content["quantization"].update(quant_algo="W4A16_NVFP4")
    )


FAULT = Fault("hf-quant-config", "hf_quant_config.json", "configuration", break_, base="plain-nvfp4")
