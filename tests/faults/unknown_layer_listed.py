"""quantized_layers lists a layer that the model does not have."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_quantization


def break_(directory: Path) -> None:
    entry = {"quant_algo": "NVFP4", "group_size": 16}
    edit_quantization(
        directory, lambda block: block["quantized_layers"].update({"thinker.model.layers.9.self_attn.q_proj": entry})
    )


FAULT = Fault("quantized-layers", "layers.9.self_attn.q_proj", "configuration", break_)
