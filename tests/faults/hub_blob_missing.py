"""A blob of the hub cache is gone: an interrupted download, or a cleaned cache."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    (directory / "model-00003-of-00004.safetensors").resolve().unlink()


FAULT = Fault("container", "model-00003-of-00004.safetensors", "files", break_, base="hub-cache")
