"""Plain NVFP4 instead of listed layers: sound, and vLLM 0.24 to 0.33 cannot load its BF16 lm_head."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_quantization


def break_(directory: Path) -> None:
    def change(block: dict) -> None:
        del block["quantized_layers"]
        block.update(quant_algo="NVFP4", group_size=16)

    edit_quantization(directory, change)


FAULT = Fault("engine-traps", "thinker.lm_head", "configuration", break_, severity="warning")
