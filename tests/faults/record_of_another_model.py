"""The record was made from another checkpoint."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_record


def break_(directory: Path) -> None:
    edit_record(directory, source_fingerprint="0" * 64)


FAULT = Fault("record-source", "record.json", "calibration", break_)
