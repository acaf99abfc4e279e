"""A config group's targets name attention, and the experts are packed as well."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_group


def break_(directory: Path) -> None:
    edit_group(directory, lambda group: group.update(targets=["re:.*self_attn.*"]))


FAULT = Fault("declared-storage", ".mlp.experts.", "configuration", break_, base="ct-w4a4")
