"""k_proj has another global scale than q_proj; vLLM warns and uses the larger for both."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, scaled


def break_(directory: Path) -> None:
    scaled(directory, [f"{ATTENTION}.k_proj.weight_scale_2"], 1.03)


FAULT = Fault("shared-scales", f"{ATTENTION}.", "scales", break_)
