"""quantized_layers names the layers without `thinker.`: it declares nothing."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_quantization


def break_(directory: Path) -> None:
    def change(block: dict) -> None:
        block["quantized_layers"] = {
            name.removeprefix("thinker."): entry for name, entry in block["quantized_layers"].items()
        }

    edit_quantization(directory, change)


FAULT = Fault("quantized-layers", "model.layers.0.self_attn.q_proj", "configuration", break_)
