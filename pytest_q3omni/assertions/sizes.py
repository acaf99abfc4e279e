"""Is it as small as it should be? Headers only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_q3omni.assertions._arguments import AnyCheckpoint, checked_bound, path_of
from pytest_q3omni.assertions.outcome import NAMED, fail
from pytest_q3omni.records import Facts, Measurement

if TYPE_CHECKING:
    from pytest_q3omni.verify.subject import Subject

_MOST = 16 / 4.5
"""NVFP4 has 4 bits a weight and 8 for 16 weights: no checkpoint is ever smaller than its BF16 by more than this."""

_BEYOND = (
    f"no NVFP4 checkpoint reaches this: 4 bits a weight and 8 for each 16 make {_MOST:.2f}x the most, with everything "
    "packed. Fix: `q3omni plan` says what each recipe reaches"
)


def assert_compression_ratio(
    checkpoint: AnyCheckpoint, original: AnyCheckpoint | None = None, *, at_least: float
) -> Measurement:
    """Assert that the checkpoint is at least so many times smaller than its original. Reads headers only.

    The ratio is tensor bytes of the original / tensor bytes of the checkpoint over the stages that both have; without
    an original, 2 bytes for every parameter. `details["planned"]` is what the checkpoint's own config plans.

    Raises:
        AssertionError: it is not; names the modules that are declared packed and are not.
        InvalidRequest: a bound that is no number above 0.
        Unreadable, Inconsistent: a directory that is no checkpoint.
    """
    __tracebackhide__ = True
    bound = checked_bound("at_least", at_least, most=math.inf, why="how many times smaller, 2.4 for instance")
    subject = _subject(checkpoint, original)
    found = _facts(subject)
    planned, sizes = found.planned_compression_ratio, found.stages.items()
    stages = {name: _share(size.source_bytes, size.tensor_bytes) for name, size in sizes}
    details = {"planned": planned, "tensor_bytes": found.tensor_bytes, "parameters": found.parameters, "stages": stages}
    measured = Measurement("compression ratio", found.compression_ratio, bound, "x", details)
    if not measured.value >= bound:
        shown = f"{measured.value:.2f}x, at_least is {bound:.2f}x (its config plans {planned:.2f}x)"
        findings = [_BEYOND] if bound > _MOST else _smaller(subject, planned >= bound)
        fail("assert_compression_ratio", path_of(checkpoint), shown, findings)
    return measured


def assert_quantized_fraction(checkpoint: AnyCheckpoint, *, at_least: float) -> Measurement:
    """Assert that at least this share (0 to 1) of all parameters is stored as packed NVFP4. Reads headers only.

    Raises:
        AssertionError: it is less; names the modules that are declared packed and are not.
        InvalidRequest: a bound that is no share.
        Unreadable, Inconsistent: a directory that is no checkpoint.
    """
    __tracebackhide__ = True
    bound = checked_bound("at_least", at_least, most=1.0, why="a share: write 0.82 for 82 %")
    subject = _subject(checkpoint)
    found = _facts(subject)
    planned = found.planned_quantized_fraction
    stages = {name: _share(size.packed_parameters, size.parameters) for name, size in found.stages.items()}
    details = {"planned": planned, "parameters": found.parameters, "stages": stages}
    measured = Measurement("quantized fraction", found.quantized_fraction, bound, "", details)
    if not measured.value >= bound:
        shown = f"{measured.value:.2%} of {found.parameters:,} parameters, at_least is {bound:.2%} "
        shown += f"(its config plans {planned:.2%})"
        fail("assert_quantized_fraction", path_of(checkpoint), shown, _smaller(subject, planned >= bound))
    return measured


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _subject(checkpoint: AnyCheckpoint, original: AnyCheckpoint | None = None) -> Subject:
    """The checkpoint's headers and config; damaged containers are an error here, not a measurement."""
    from pytest_q3omni.omni.checkpoint import open_checkpoint
    from pytest_q3omni.verify.subject import Subject

    source = None if original is None else open_checkpoint(path_of(original))
    return Subject(open_checkpoint(path_of(checkpoint)), source=source)


def _facts(subject: Subject) -> Facts:
    from pytest_q3omni.verify.facts import facts

    return facts(subject)


def _smaller(subject: Subject, planned_enough: bool) -> list[str]:
    """Why the checkpoint is larger than asked: modules not packed as declared, or a plan that cannot reach it."""
    from pytest_q3omni.verify.facts import planned

    declared = {row.module: row.scheme for row in planned(subject) if row.scheme in ("w4a4", "w4a16")}
    unpacked = [module for module in declared if module not in subject.packed]
    findings = []
    for module in unpacked[:NAMED]:
        entry = subject.entries.get(f"{module}.weight")
        stored = "absent" if entry is None else f"stored as {entry.info.dtype} {list(entry.info.shape)}"
        findings.append(f"{module}: declared {declared[module].upper()}, {stored}. Fix: pack it again")
    if len(unpacked) > NAMED:
        findings.append(f"... and {len(unpacked) - NAMED:,} more modules that are declared packed and are not")
    if not declared:
        findings.append("config.json declares no packed module. Fix: pack it, `q3omni quantize SRC OUT --recipe R`")
    elif not planned_enough:
        fix = "choose a recipe that packs more (`q3omni plan` compares them), or lower the bound"
        findings.append(f"packed as planned, and the plan does not reach the bound. Fix: {fix}")
    return findings or ["tensors are larger than planned. Fix: `q3omni verify` names them"]
