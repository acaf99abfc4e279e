"""The engine's loader writes every element of every parameter.

vLLM 0.32 says nothing where an expert, one of its scales, a norm or lm_head is missing, nor where a scale is shorter
than its place: what nobody writes is whatever was in that memory. Here every copy into its parameters is counted
(headers), or every byte is seen to change (bytes). What vLLM rightly fills by itself, such as the input scales of
weight-only experts, is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pytest_q3omni.engines.engine_report import EngineReport, Unwritten
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.loading import unserved_stages
from pytest_q3omni.verify.subject import Subject

_HALVES = re.compile(r"(w13|w2)_(?P<suffix>.+)")
_PROJECTIONS = {"w13": ("gate_proj", "up_proj"), "w2": ("down_proj",)}
_FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
_CACHE = ("k_scale", "v_scale")
_NAMED = 8  # experts or rows that a finding names


def _find(subject: Subject) -> Iterator[Fault]:
    report = subject.engine
    if report is None or report.rejected is not None:
        return
    short = [item for item in report.unwritten if not item.why]
    for item in short:
        expert = _HALVES.fullmatch(item.parameter) is not None
        yield from _experts(subject, report, item) if expert else [_one(subject, report, item)]
    if all(item.parameter in _CACHE for item in short):
        subject.note("loads", _covered(subject, report))


def _covered(subject: Subject, report: EngineReport) -> str:
    wanted = report.parameters - len(report.unwritten)
    rest = f", {len(report.unwritten):,} more need none or have a default" if report.unwritten else ""
    text = f"{report.name}, {report.depth}: {report.tensors:,} tensors write all of {wanted:,} parameters{rest}"
    skipped = ", ".join(unserved_stages(subject))
    return f"{text}; {skipped} not checked: needs vllm-omni" if skipped else text


def _experts(subject: Subject, report: EngineReport, item: Unwritten) -> Iterator[Fault]:
    """One fault for each expert that is not wholly written; from many, one for all."""
    match = _HALVES.fullmatch(item.parameter)
    numbers = [number for first, end in item.gaps for number in range(first, end)]
    projections = _PROJECTIONS[match[1]] if match else ()
    suffix = match["suffix"] if match else item.parameter
    for number in numbers[:_NAMED]:
        names = [f"{item.module}.{number}.{projection}.{suffix}" for projection in projections]
        yield _fault(report, item, _guilty(subject, names) or names[0], f": not expert {number}")
    if len(numbers) > _NAMED:
        yield _fault(report, item, item.module, f": not {len(numbers) - _NAMED:,} more experts, up to {numbers[-1]}")


def _one(subject: Subject, report: EngineReport, item: Unwritten) -> Fault:
    parent, _, last = item.module.rpartition(".")
    members = _FUSED.get(last, (last,))
    names = [f"{parent}.{member}.{item.parameter}".lstrip(".") for member in members]
    rows = ", ".join(str(first) if end == first + 1 else f"{first} to {end - 1}" for first, end in item.gaps[:_NAMED])
    which = f": not rows {rows} of {item.rows:,}" if item.rows > 1 else ""
    return _fault(report, item, _guilty(subject, names) or names[0], which)


def _guilty(subject: Subject, names: list[str]) -> str:
    """The first of the tensors that is missing, or smaller than the config implies; "" where all look right."""
    for name in names:
        stored, wanted = subject.entries.get(name), subject.expected.get(name)
        if stored is None or (wanted is not None and stored.info.shape != wanted.shape):
            return name
    return ""


def _fault(report: EngineReport, item: Unwritten, where: str, which: str) -> Fault:
    found = f"{report.name} writes {item.written:,} of {item.total:,} elements of {item.parameter}{which}"
    cache = item.parameter in _CACHE
    fix = "calibrate the KV cache again, or take its declaration out" if cache else "put the tensor back: pack again"
    return Fault(
        where,
        f"{found}; it takes 1 instead" if cache else f"{found}; the rest is whatever was in that memory",
        "every element written from the checkpoint",
        fix,
        "warning" if cache else "error",
    )


CHECK = Check("loader-coverage", "loads", __doc__, _find, after=("loader-accepts",), needs="engine")
