"""The talker's codec embedding lacks its last row."""

from pathlib import Path

from _checkpoint_edit import Fault, read, write


def break_(directory: Path) -> None:
    name = "talker.model.codec_embedding.weight"
    write(directory, {name: read(directory, name)[:-1]})


FAULT = Fault("shapes", "talker.model.codec_embedding.weight", "other stages", break_)
