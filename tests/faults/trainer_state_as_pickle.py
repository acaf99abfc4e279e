"""A trainer's arguments lie beside the weights as a pickle."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    (directory / "training_args.bin").write_bytes(b"\x80\x04N.")


FAULT = Fault("pickles", "training_args.bin", "files", break_)
