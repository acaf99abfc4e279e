"""The audio tower is packed while config and card say BF16 (vllm-omni#1854)."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_quantization, original, pack


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["ignore"].remove("thinker.audio_tower*"))
    pack(directory, "thinker.audio_tower.layers.0.fc1", original("thinker.audio_tower.layers.0.fc1.weight"))


FAULT = Fault("declared-storage", "thinker.audio_tower.layers.0.fc1.weight", "silent non-quantization", break_)
