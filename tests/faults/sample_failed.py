"""A calibration sample failed."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_record

from pytest_q3omni.records import SampleFailure


def break_(directory: Path) -> None:
    failure = SampleFailure("conversation 3", "IndexError: index -1 is out of bounds")
    edit_record(directory, failures=(failure,))


FAULT = Fault("samples", "record.json", "calibration", break_)
