"""The record has 0 for an input: a layer that calibration ran on silence."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, edit_record

from pytest_q3omni.calibrate.record import load_record


def break_(directory: Path) -> None:
    amax = load_record(directory / "q3omni").input_amax
    edit_record(directory, input_amax={**amax, f"{ATTENTION}.o_proj": 0.0})


FAULT = Fault("recorded-input-scales", f"{ATTENTION}.o_proj.input_scale", "calibration", break_)
