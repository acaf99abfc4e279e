"""The record's description is there, and its numbers are not."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    (directory / "q3omni" / "record.safetensors").unlink()


FAULT = Fault("record-files", "record.safetensors", "calibration", break_, alone=False)
