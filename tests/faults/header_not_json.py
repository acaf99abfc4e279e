"""The header is not JSON: a download page saved as weights."""

from pathlib import Path

from _checkpoint_edit import Fault, replace_header


def break_(directory: Path) -> None:
    replace_header(directory / "model.safetensors", b"<!DOCTYPE html>")


FAULT = Fault("container", "model.safetensors", "files", break_)
