"""All attention is declared NVFP4 and stored in BF16."""

from pathlib import Path

from _checkpoint_edit import LAYER, OTHER_LAYER, Fault, unpack


def break_(directory: Path) -> None:
    for layer in (LAYER, OTHER_LAYER):
        for projection in ("q_proj", "k_proj", "v_proj", "o_proj"):
            unpack(directory, f"{layer}.self_attn.{projection}")


FAULT = Fault("declared-storage", "self_attn.q_proj.weight", "silent non-quantization", break_)
