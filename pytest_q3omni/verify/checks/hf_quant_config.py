"""`hf_quant_config.json`, where there is one, says what `config.json` says.

ModelOpt writes both; some engines read one, some the other. vLLM 0.32 does not notice that they contradict each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pytest_q3omni.layouts import Declared
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.claim import Claim
from pytest_q3omni.verify.companions import Companions
from pytest_q3omni.verify.subject import Subject, part_of

FILE = "hf_quant_config.json"
_PREFIX = "thinker."
_TEXT = ("thinker", "decoder", "towers")
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
    if second.faults:
        where, found, expected, _ = second.faults[0]
        yield Fault(FILE, f"{where} is {found}", f"{expected}, as in config.json", _FIX)
        return
    if second.kv_cache != first.kv_cache:
        said = ("no quantized KV cache", "a quantized KV cache")
        found, expected = f"declares {said[second.kv_cache]}", f"{said[first.kv_cache]}, as in config.json"
        yield Fault(FILE, found, expected, _FIX)
    yield from _layers(subject, second, subject.claim)


def _layers(subject: Subject, second: Declared, claim: Claim) -> Iterator[Fault]:
    """One fault where layers of the text model are declared otherwise than in config.json. Names count with the
    thinker's prefix and without: the file is often that of a thinker that was exported alone."""
    prefixed = replace(
        second,
        ignore=(*second.ignore, *(f"{_PREFIX}{entry}" for entry in second.ignore)),
        modules=dict(second.modules) | {f"{_PREFIX}{module}": scheme for module, scheme in second.modules.items()},
    )
    linears = {linear.module: linear.weight for linear in subject.linears}
    other = Claim(prefixed, linears)
    text = [module for module in linears if part_of(module)[0] in _TEXT and subject.sound(module)]
    differing = [module for module in text if other.scheme(module) != claim.scheme(module)]
    if differing and other.short:
        first = differing[0]
        found = f"{len(differing):,} of {len(text):,} layers otherwise, first {first}: {_said(other.scheme(first))}"
        yield Fault(FILE, found, f"{_said(claim.scheme(first))}, as in config.json", _FIX)


def _said(numerics: str | None) -> str:
    return f"declared {numerics.upper()}" if numerics else "not declared"


CHECK = Check("hf-quant-config", "consistent", __doc__, _find, after=("declaration", "declared-storage"))
