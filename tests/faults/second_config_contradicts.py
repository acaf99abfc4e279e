"""hf_quant_config.json declares what config.json does not."""

import json
from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    content = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "W4A16_NVFP4", "group_size": 16}}
    (directory / "hf_quant_config.json").write_text(json.dumps(content))


FAULT = Fault("hf-quant-config", "hf_quant_config.json", "configuration", break_)
