"""The record has amax values and no token counts."""

from pathlib import Path

from _checkpoint_edit import LAYER, Fault, edit_record


def break_(directory: Path) -> None:
    edit_record(directory, expert_tokens={})


FAULT = Fault("expert-coverage", f"{LAYER}.mlp.experts", "calibration", break_)
