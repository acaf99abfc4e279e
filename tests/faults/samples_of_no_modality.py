"""Sixty samples passed, and none of them had text, image or audio."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_record


def break_(directory: Path) -> None:
    edit_record(directory, samples={})


FAULT = Fault("samples", "record.json", "calibration", break_)
