"""The record's description is no JSON; the weights are sound."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    (directory / "q3omni" / "record.json").write_text("{")


FAULT = Fault("record-files", "q3omni/record.json", "calibration", break_, alone=False)
