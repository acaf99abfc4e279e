"""A pickle is called *.safetensors."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    (directory / "extra.safetensors").write_bytes(b"\x80\x04\x95" + bytes(40) + b".")


FAULT = Fault("container", "extra.safetensors", "files", break_, base="sharded")
