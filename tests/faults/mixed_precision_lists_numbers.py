"""quantized_layers maps a layer to a number."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["quantized_layers"].update({f"{ATTENTION}.o_proj": 4}))


FAULT = Fault(
    "declaration", f"{CONFIG}.quantized_layers.{ATTENTION}.o_proj", "configuration", break_, base="nvfp4-default"
)
