"""The record counts tokens for four of eight experts."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_record

from pytest_q3omni.calibrate.record import load_record


def break_(directory: Path) -> None:
    tokens = load_record(directory / "q3omni").expert_tokens
    cut = {kind: {layer: counts[:4] for layer, counts in layers.items()} for kind, layers in tokens.items()}
    edit_record(directory, expert_tokens=cut)


FAULT = Fault("expert-coverage", ".mlp.experts", "calibration", break_)
