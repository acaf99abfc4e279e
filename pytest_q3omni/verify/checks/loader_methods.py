"""The engine runs as quantized what is stored quantized, and in the same numbers.

"It loads" may mean "unquantized": a name that the engine spells differently, an ignore entry that covers too much, and
the layers run as BF16, or are expected to be. The layers are counted as the engine fuses them: q/k/v are one, all
experts of a layer are one. Other numerics for the same weights (W4A16 for W4A4) are a warning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Set

from pytest_q3omni.engines.engine_report import UNQUANTIZED, EngineReport
from pytest_q3omni.records import Scheme
from pytest_q3omni.verify.checks._protocol import CONFIG_JSON, Check, Fault
from pytest_q3omni.verify.loading import stored_schemes, unit_of
from pytest_q3omni.verify.subject import Subject

_FIX = "correct `quantization_config`, or pack this layer again"
_WEIGHTS: Mapping[str, str] = {"w4a4": "NVFP4", "w4a16": "NVFP4", "fp8": "FP8", "fp8_dynamic": "FP8"}


def _find(subject: Subject) -> Iterator[Fault]:
    report = subject.engine
    if report is None or report.rejected is not None:
        return
    expected = _units(subject)
    chosen = {unit: scheme for unit, scheme in report.methods.items() if scheme != UNQUANTIZED}
    if not chosen and not expected:
        found = f"{report.name} quantizes none of its {len(report.methods):,} layers"
        fix = "pack it, or serve the original under its own name"
        yield Fault(f"{CONFIG_JSON}.quantization_config", found, "quantized layers", fix)
        return
    wrong = [*_wrong(report, expected), *_surplus(subject, report, chosen.keys() - expected.keys())]
    yield from wrong
    if not wrong:
        kinds = ", ".join(f"{count:,} as {_said(scheme)}" for scheme, count in sorted(Counter(chosen.values()).items()))
        same = " as stored" if chosen.keys() == expected.keys() else ""
        subject.note("loads", f"{len(chosen):,} of {len(report.methods):,} layers quantized{same} ({kinds})")


def _units(subject: Subject) -> dict[str, Scheme]:
    """Fused layer -> how its members are stored; without those whose members differ, which `fused-groups` reports."""
    members: dict[str, set[Scheme]] = {}
    for module, scheme in stored_schemes(subject).items():
        members.setdefault(unit_of(module), set()).add(scheme)
    return {unit: next(iter(schemes)) for unit, schemes in members.items() if len(schemes) == 1}


def _wrong(report: EngineReport, expected: Mapping[str, Scheme]) -> Iterator[Fault]:
    for unit, scheme in expected.items():
        chosen = report.methods.get(unit, "")
        if chosen == scheme:
            continue
        if chosen in _WEIGHTS and _WEIGHTS[chosen] == _WEIGHTS[scheme]:
            found = f"{report.name} computes it as {_said(chosen)}"
            yield Fault(unit, found, f"{_said(scheme)}, as it is stored and declared", _FIX, "warning")
        else:
            found = f"{report.name} {f'runs it {_said(chosen)}' if chosen else 'has no such layer'}"
            yield Fault(unit, found, f"{_said(scheme)}, as it is stored", _FIX)


def _surplus(subject: Subject, report: EngineReport, units: Set[str]) -> Iterator[Fault]:
    """Layers that only the engine quantizes; of names that the config does not imply nothing is known here."""
    known = {unit_of(module.removesuffix(".weight")) for module in subject.implied}
    for unit in sorted(units & known):
        found = f"{report.name} expects {_said(report.methods[unit])}"
        yield Fault(unit, found, "unquantized, as it is stored", _FIX)


def _said(scheme: str) -> str:
    names = {"fp8_dynamic": "FP8 with dynamic inputs", UNQUANTIZED: "unquantized"}
    return names.get(scheme, scheme.upper() if scheme in _WEIGHTS else f"`{scheme}`")


CHECK = Check("loader-methods", "loads", __doc__, _find, after=("loader-accepts",), needs="engine")
