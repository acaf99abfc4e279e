"""The record's description is of a version that does not exist."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "q3omni/record.json", lambda content: content.update(schema=99))


FAULT = Fault("record-files", "record.json", "calibration", break_, alone=False)
