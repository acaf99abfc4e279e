"""The record counts more conversations with audio than it ran."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_record


def break_(directory: Path) -> None:
    edit_record(directory, samples_total=60, samples={"text": 60, "audio": 61})


FAULT = Fault("samples", "record.json", "calibration", break_)
