"""hf_quant_config.json says blocks of 32."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "hf_quant_config.json", lambda content: content["quantization"].update(group_size=32))


FAULT = Fault("hf-quant-config", "hf_quant_config.json", "configuration", break_, base="plain-nvfp4")
