"""hf_quant_config.json excludes nothing: towers and talker are declared packed there."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "hf_quant_config.json", lambda content: content["quantization"].update(exclude_modules=[]))


FAULT = Fault("hf-quant-config", "hf_quant_config.json", "configuration", break_, base="plain-nvfp4")
