"""W4A16_NVFP4 is declared, and every layer has an input scale: engines drop it."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block.update(quant_algo="W4A16_NVFP4"))
    edit_json(
        directory, "hf_quant_config.json", lambda content: content["quantization"].update(quant_algo="W4A16_NVFP4")
    )
    (directory / "README.md").unlink()  # it says W4A4


FAULT = Fault(
    "input-scales", "input_scale", "configuration", break_, base="plain-nvfp4", given=("source",), severity="warning"
)
