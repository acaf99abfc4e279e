"""The header is a hundred thousand brackets: a recursive reader overflows its stack."""

from pathlib import Path

from _checkpoint_edit import Fault, write_header


def break_(directory: Path) -> None:
    write_header(directory, b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


FAULT = Fault("container", "model.safetensors", "files", break_)
