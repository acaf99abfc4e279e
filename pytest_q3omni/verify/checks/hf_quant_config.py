"""`hf_quant_config.json`, where there is one, says what `config.json` says.

ModelOpt writes both; some engines read one, some the other. vLLM 0.32 does not notice that they contradict each other.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.layouts import Declared
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.companions import Companions
from pytest_q3omni.verify.subject import Subject

FILE = "hf_quant_config.json"
_FIX = f"delete {FILE}, or write it from config.json's quantization_config"


def _find(subject: Subject) -> Iterator[Fault]:
    companions = Companions(subject.checkpoint.path)
    content = companions.json(FILE)
    if content is None:
        for error in companions.unreadable.values():
            yield Fault(FILE, error.found, "a readable JSON file", _FIX)
        return
    if subject.claim is None or not subject.claim.usable or subject.known_layout is None:
        return
    second, first = subject.known_layout.declared(content), subject.claim.declared
    for what, mine, theirs in _differences(second, first):
        yield Fault(FILE, f"{what}: {mine}", f"{theirs}, as in config.json", _FIX)


def _differences(second: Declared, first: Declared) -> Iterator[tuple[str, str, str]]:
    """Algorithm and listed layers; ignore lists are compared by neither, since two spellings can mean the same."""
    if second.faults:
        where, found, expected, _ = second.faults[0]
        yield f"{where} is {found}", "not understood", expected
    elif second.everything != first.everything:
        yield "layers not listed", _said(second.everything), _said(first.everything)
    elif second.modules != first.modules:
        unit = min(
            unit
            for unit in second.modules.keys() | first.modules.keys()
            if second.modules.get(unit) != first.modules.get(unit)
        )
        yield unit, _said(second.modules.get(unit)), _said(first.modules.get(unit))


def _said(numerics: str | None) -> str:
    return f"declared {numerics.upper()}" if numerics else "not declared"


CHECK = Check("hf-quant-config", "consistent", __doc__, _find, after=("declaration",))
