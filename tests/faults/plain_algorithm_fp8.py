"""FP8 is declared over packed layers."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block.update(quant_algo="FP8"))
    edit_json(directory, "hf_quant_config.json", lambda content: content["quantization"].update(quant_algo="FP8"))


FAULT = Fault("declared-storage", "thinker.model.layers", "configuration", break_, base="plain-nvfp4")
