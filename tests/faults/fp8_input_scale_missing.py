"""An FP8 module with static inputs has no input scale."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.q_proj.input_scale"
    write(directory, {name: None})


FAULT = Fault("scales-present", f"{ATTENTION}.q_proj.input_scale", "scales", break_, base="mixed")
