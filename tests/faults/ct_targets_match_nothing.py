"""A config group's targets match nothing: the packed layers are declared unquantized."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_group


def break_(directory: Path) -> None:
    edit_group(directory, lambda group: group.update(targets=[r"re:.*transformer\.h\..*"]))


FAULT = Fault("declared-storage", "thinker.model.layers", "configuration", break_, base="ct-w4a4")
