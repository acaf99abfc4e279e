"""A thinker alone has a tensor of the talker."""

from pathlib import Path

from _checkpoint_edit import Fault, original, write


def break_(directory: Path) -> None:
    write(directory, {"talker.model.norm.weight": original("talker.model.norm.weight")})


FAULT = Fault("names", "talker.model.norm.weight", "other stages", break_, base="thinker-only")
