"""The record has no amax for a layer that is declared W4A4."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, edit_record

from pytest_q3omni.calibrate.record import load_record


def break_(directory: Path) -> None:
    amax = dict(load_record(directory / "q3omni").input_amax)
    amax.pop(f"{ATTENTION}.o_proj")
    edit_record(directory, input_amax=amax)


FAULT = Fault("recorded-input-scales", f"{ATTENTION}.o_proj.input_scale", "calibration", break_)
