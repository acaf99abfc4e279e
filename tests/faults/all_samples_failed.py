"""Every calibration sample failed."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_record

from pytest_q3omni.calibrate.record import load_record
from pytest_q3omni.records import SampleFailure


def break_(directory: Path) -> None:
    record = load_record(directory / "q3omni")
    failures = tuple(SampleFailure(f"conversation {number}", "no forward") for number in range(record.samples_total))
    edit_record(directory, failures=failures)


FAULT = Fault("samples", "record.json: conversation 0", "calibration", break_)
