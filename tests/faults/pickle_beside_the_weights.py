"""A pickle beside the safetensors, as evaluation exports leave it."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    (directory / "pytorch_model.bin").write_bytes(b"never opened")


FAULT = Fault("pickles", "pytorch_model.bin", "files", break_)
