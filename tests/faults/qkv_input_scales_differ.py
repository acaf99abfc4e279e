"""v_proj has another input scale than q_proj and k_proj, which read the same input."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, scaled


def break_(directory: Path) -> None:
    scaled(directory, [f"{ATTENTION}.v_proj.input_scale"], 1.25)


FAULT = Fault("shared-input-scales", f"{ATTENTION}.v_proj.input_scale", "scales", break_)
