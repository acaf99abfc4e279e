"""An expert that is declared W4A4 has no input scale: 1/0 on some prompts (vllm#45212)."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, write


def break_(directory: Path) -> None:
    write(directory, {f"{EXPERT}.gate_proj.input_scale": None})


FAULT = Fault("scales-present", f"{EXPERT}.gate_proj.input_scale", "scales", break_)
