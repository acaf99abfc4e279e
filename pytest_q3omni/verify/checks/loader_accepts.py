"""The engine's own loader takes the checkpoint.

Asked of vLLM itself, on shapes or bytes (`verify --engine vllm`). Its message is shortened; an assertion without words
is told by the line that raised it, and the tensor that the loader had asked for last is named. What to do comes from
the table of known traps (`engines/compatibility.py`) where one of them explains it.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.engines.compatibility import tripped
from pytest_q3omni.verify.checks._protocol import CONFIG_JSON, Check, Fault
from pytest_q3omni.verify.loading import layers
from pytest_q3omni.verify.subject import Subject

_WHILE = {
    "configure": "while it reads the configuration",
    "build": "while it builds the model",
    "load": "while it loads",
    "answer": "while it answers",
}
_GENERAL = "correct what it names; the findings without an engine, and a checkpoint of `q3omni quantize`, show how"


def _find(subject: Subject) -> Iterator[Fault]:
    report = subject.engine
    if report is None or report.rejected is None:
        return
    refusal = report.rejected
    known = [
        (trap, where)
        for trap, where, _ in tripped(layers(subject), engine=report.engine, version=report.version)
        if trap.happens == "refused"
    ]
    where = refusal.tensor or (known[0][1] if known else CONFIG_JSON)
    fix = "; ".join(dict.fromkeys(f"{trap.then}: {trap.fix}" for trap, _ in known)) or _GENERAL
    found = f"{report.name} refuses the checkpoint {_WHILE.get(refusal.step, '')}: {refusal.message}"
    yield Fault(where, found, "a checkpoint that the engine loads", fix)


CHECK = Check("loader-accepts", "loads", __doc__, _find, needs="engine")
