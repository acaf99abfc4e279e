"""The record has no amax for a layer that compressed-tensors' config declares W4A4."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, edit_record

from pytest_q3omni.calibrate.record import load_record


def break_(directory: Path) -> None:
    amax = load_record(directory / "q3omni").input_amax
    edit_record(directory, input_amax={site: value for site, value in amax.items() if site != f"{ATTENTION}.o_proj"})


FAULT = Fault("recorded-input-scales", f"{ATTENTION}.o_proj.input_global_scale", "calibration", break_, base="ct-w4a4")
