"""No trap that engines are known to have: the table in `engines/compatibility.py`, asked of the files.

Each row names the engine's versions, what happens and how we know. A warning, since it depends on what serves the
checkpoint. Where the engine itself was asked (`--engine`), its own word counts instead for everything that it refuses
at loading; what only shows on a GPU is still said. What another check finds in the files is left to that.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.engines.compatibility import TRAPS, tripped
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.loading import layers
from pytest_q3omni.verify.subject import Subject


def _find(subject: Subject) -> Iterator[Fault]:
    if subject.block is None or not subject.implied:
        return
    asked = subject.engine is not None
    rows = [trap for trap in TRAPS if not trap.told_by and not (asked and trap.happens == "refused")]
    version = "" if subject.engine is None else subject.engine.version
    for trap, where, found in tripped(layers(subject), version=version, rows=rows):
        if not subject.sound(where):
            continue
        expected = f"nothing that trips {trap.versions}: {trap.then} [{trap.name}; {trap.source}]"
        yield Fault(where, found, expected, trap.fix, "warning")


CHECK = Check("engine-traps", "loads", __doc__, _find, after=("declared-storage", "stage-policy", "loader-accepts"))
