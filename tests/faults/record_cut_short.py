"""The record's numbers end too early; the weights are sound."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    file = directory / "q3omni" / "record.safetensors"
    file.write_bytes(file.read_bytes()[:-4])


FAULT = Fault("record-files", "q3omni/record.safetensors", "calibration", break_, alone=False)
