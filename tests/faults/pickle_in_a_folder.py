"""A folder of the checkpoint holds the weights again, as a pickle."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    (directory / "original").mkdir()
    (directory / "original" / "consolidated.00.pth").write_bytes(b"PK\x03\x04" + bytes(26) + b"consolidated/data.pkl")


FAULT = Fault("pickles", "original/consolidated.00.pth", "files", break_)
