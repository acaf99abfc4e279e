"""A dense layer lacks its global scale: NaN in vLLM."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, write


def break_(directory: Path) -> None:
    write(directory, {f"{ATTENTION}.o_proj.weight_scale_2": None})


FAULT = Fault("scales-present", f"{ATTENTION}.o_proj.weight_scale_2", "scales", break_)
