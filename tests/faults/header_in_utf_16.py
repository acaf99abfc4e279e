"""The header is UTF-16: json would read it, the library does not."""

from pathlib import Path

from _checkpoint_edit import Fault, replace_header


def break_(directory: Path) -> None:
    file = directory / "model.safetensors"
    raw = file.read_bytes()
    replace_header(file, raw[8 : 8 + int.from_bytes(raw[:8], "little")].decode().encode("utf-16"))


FAULT = Fault("container", "model.safetensors", "files", break_)
