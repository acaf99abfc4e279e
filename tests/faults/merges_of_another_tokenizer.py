"""merges.txt is not the one that vocab.json belongs to."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    lines = (directory / "merges.txt").read_text().splitlines()
    (directory / "merges.txt").write_text("\n".join([lines[0], *reversed(lines[1:])]))


FAULT = Fault("companions", "merges.txt", "companions", break_, alone=False)
