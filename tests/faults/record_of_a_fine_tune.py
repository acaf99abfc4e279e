"""The record was made from a fine-tune: the same headers, other weights."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_record


def break_(directory: Path) -> None:
    edit_record(directory, source_weights="0" * 64)


FAULT = Fault("record-source", "record.json", "calibration", break_)
