"""The record names a recipe that packs nothing."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_record


def break_(directory: Path) -> None:
    edit_record(directory, recipe="bf16")


FAULT = Fault("samples", "record.json", "calibration", break_)
