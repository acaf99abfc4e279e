"""Plain NVFP4_AWQ: vLLM knows no such algorithm."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block.update(quant_algo="NVFP4_AWQ"))


FAULT = Fault("declaration", f"{CONFIG}.quant_algo", "configuration", break_, base="plain-nvfp4")
