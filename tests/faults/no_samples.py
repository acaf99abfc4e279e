"""A record of no conversation."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_record


def break_(directory: Path) -> None:
    edit_record(directory, samples_total=0, samples={})


FAULT = Fault("samples", "record.json", "calibration", break_)
