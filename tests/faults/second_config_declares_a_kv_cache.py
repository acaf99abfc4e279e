"""hf_quant_config.json declares an FP8 KV cache, config.json none."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory, "hf_quant_config.json", lambda content: content["quantization"].update(kv_cache_quant_algo="FP8")
    )


FAULT = Fault("hf-quant-config", "hf_quant_config.json", "configuration", break_, base="plain-nvfp4")
