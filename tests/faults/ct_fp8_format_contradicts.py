"""FP8 layers are declared in the format of packed NVFP4."""

from pathlib import Path

from _checkpoint_edit import GROUP, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["config_groups"]["group_0"].update(format="nvfp4-pack-quantized"))


FAULT = Fault("declaration", f"{GROUP}.format", "configuration", break_, base="ct-mixed")
