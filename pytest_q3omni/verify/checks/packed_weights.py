"""Every packed weight dequantizes to its source within the error that NVFP4 permits, block by block.

The bound is derived, not guessed (`nvfp4.format.error_bound`): a weight is rounded to the nearest of the values E2M1
* d, and d is off from the ideal scale by half an E4M3 step at most. Packing the source again comes first: where the
bytes are the same, the tensor is exactly what packing the source gives. Where they are not, and the writer packs
plainly, the codes must still be the nearest ones for the stored scales; a lost sign on a small weight stays within
the bound.

What accuracy and KL do not see is found here: one expert's global scale x4, block scales shifted by one, a dropped
mantissa bit, two experts exchanged.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING

from pytest_q3omni.errors import FormatError
from pytest_q3omni.nvfp4.format import SCALE_DIVISOR
from pytest_q3omni.omni.checkpoint import Checkpoint
from pytest_q3omni.omni.naming import fused_group
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.comparison import (
    NOISE,
    Buffers,
    comparable,
    in_order,
    rederived,
    source_weight,
    stored_values,
)
from pytest_q3omni.verify.diagnosis import far_codes, likely_cause
from pytest_q3omni.verify.subject import Packed, Subject

if TYPE_CHECKING:
    import numpy as np

    from pytest_q3omni.nvfp4.codec import BlockErrors
    from pytest_q3omni.nvfp4.rederive import Rederived

_SLACK = 1.01
"""Over the bound. Our own rules need none; a writer that divides in BF16 (2^-8 = 0.4 %) does."""

_CUT = 1 + 2.0**-4  # half a step of E4M3; compressed-tensors' BF16 scales are off by 2^-8
_UNLIKE = 0.15
"""Relative error that no sound tensor has: trained ones 0.097, uniform weights 0.11."""

_CAUSES = 20  # faults whose cause is looked for; each costs a few passes over the tensor
_PLAIN = 0.5  # share of exact tensors from which on the writer packs plainly and the others are looked at more closely
_AGAIN = "pack this module again from the source"


def _find(subject: Subject) -> Iterator[Fault]:
    source = subject.source
    if source is None:
        return
    groups = list(comparable(subject))
    left = len(subject.packed) - sum(map(len, groups))
    total, done, exact, told = sum(map(len, groups)), 0, 0, 0
    other: list[Packed] = []
    buffers, broken = Buffers(), _broken(subject, groups)
    compared = in_order(lambda packed: rederived(subject, packed, buffers), chain.from_iterable(groups))
    for group in groups:
        subject.progress("compare packed weights", done, total)
        results = list(islice(compared, len(group)))
        try:
            largest = _largest(source, (*group, *broken.get(fused_group(group[0].module), ())), results, buffers)
        except FormatError as error:
            yield Fault(
                error.where or group[0].codes,
                f"the source is damaged: {error.found}",
                error.expected,
                error.fix,
                blames=tuple(packed.module for packed in group),
            )
            continue
        for packed, result in zip(group, results, strict=True):
            done += 1
            result, same = _by_rule(subject, packed, result, largest, buffers)
            errors = result.errors
            subject.tensor_errors[packed.codes] = errors.relative, errors.worst
            exact += same
            if same:
                continue
            if errors.worst_share > _SLACK:
                told += 1
                yield _fault(packed, errors, _cause(subject, packed, buffers) if told <= _CAUSES else "")
            elif fault := _too_far(packed, result):
                yield fault
            else:
                other.append(packed)
    yield from _not_nearest(subject, other, exact, total)
    subject.uncompared += left
    _note(subject, exact, total, left)


def _broken(subject: Subject, groups: list[tuple[Packed, ...]]) -> dict[str, list[Packed]]:
    """Fused group -> members that are not compared and whose source counts all the same: scales come from all."""
    assert subject.source is not None
    compared = {packed.module for group in groups for packed in group}
    found: dict[str, list[Packed]] = defaultdict(list)
    for packed in subject.packed.values() if len(compared) < len(subject.packed) else ():
        entry = subject.source.entries.get(f"{packed.module}.weight")
        there = entry is not None and entry.info.dtype == "BF16" and entry.info.shape == packed.shape
        if there and packed.module not in compared:
            found[fused_group(packed.module)].append(packed)
    return found


def _largest(source: Checkpoint, group: tuple[Packed, ...], results: list[Rederived], buffers: Buffers) -> np.float32:
    """The largest magnitude of the weights of all members, which the global scale comes from. `results`: of the first.

    Raises:
        FormatError: a source that holds NaN or Inf, and where.
    """
    import numpy as np

    from pytest_q3omni.nvfp4.codec import amax

    largest = max(result.amax for result in results)
    read = group[len(results) :] if largest < math.inf else group
    others = (float(amax(source_weight(source, packed, buffers), where=packed.module)) for packed in read)
    return np.float32(max(others, default=0.0) if largest == math.inf else max(largest, *others, 0.0))


def _by_rule(
    subject: Subject, packed: Packed, result: Rederived, largest: np.float32, buffers: Buffers
) -> tuple[Rederived, bool]:
    """The comparison by the rule of the packer whose global scale is stored, and whether it gives the same bytes.

    The first comparison guessed the rule from the stored scale alone; where it is off, the others are tried.
    """
    import numpy as np

    from pytest_q3omni.nvfp4.rules import likely_rule, rules

    stored, inverted = np.float32(subject.scalar(packed.global_scale) or 0), subject.layout.inverted
    guess = likely_rule(stored, inverted=inverted)
    for rule in rules(inverted=inverted):
        parameter = rule.parameter(largest)
        if rule.stored(parameter) != stored:
            continue
        guessed = rule is guess and rule.likely(stored) == parameter
        again = result if guessed else rederived(subject, packed, buffers, rule, parameter)
        if not again.differing:
            return again, True
    return result, False


def _cause(subject: Subject, packed: Packed, buffers: Buffers) -> str:
    assert subject.source is not None
    weight, values = source_weight(subject.source, packed, buffers), stored_values(subject, packed, buffers)
    return likely_cause(subject, packed, weight, values)


def _fault(packed: Packed, errors: BlockErrors, cause: str) -> Fault:
    row, block = errors.worst_share_block
    return Fault(
        packed.codes,
        f"relative error {errors.relative:.4f}, {errors.worst:.4f} in the worst block; row {row}, block {block} is off "
        f"by {errors.worst_share:.3g} times what NVFP4 permits{f'. {cause}' if cause else ''}",
        f"at most 1 times the format's bound in every block (sound tensors: {NOISE[0]} to {NOISE[1]})",
        _AGAIN,
    )


def _too_far(packed: Packed, result: Rederived) -> Fault | None:
    """What the bound of single blocks excuses: the format may cut at 2688 times the global scale, and a writer that
    takes too small a scale cuts everywhere."""
    reach, errors = SCALE_DIVISOR * float(result.global_scale), result.errors
    if result.amax > reach * _CUT:
        told = f"the largest weight {result.amax:.4g} is cut to {reach:.4g}: the global scale is too small by a factor "
        told += f"of {result.amax / reach:.3g}; relative error {errors.relative:.4f}"
        return Fault(packed.global_scale, told, "a scale that reaches the largest weight: amax / 2688", _AGAIN)
    if errors.relative > _UNLIKE:
        told = f"relative error {errors.relative:.4f}, though no block is beyond what NVFP4 permits"
        return Fault(packed.codes, told, f"{NOISE[0]} to {NOISE[1]}, as in sound tensors", _AGAIN)
    return None


def _not_nearest(subject: Subject, other: list[Packed], exact: int, total: int) -> Iterator[Fault]:
    """Tensors of a plain writer that are not exact: changed after packing where a code is not even the nearest."""
    if subject.source is None or exact <= _PLAIN * total:
        return
    buffers = Buffers()
    exactly = f"{exact:,} of {total:,} packed tensors are exactly what packing the source gives"
    for packed in other:
        far, first = far_codes(source_weight(subject.source, packed, buffers), stored_values(subject, packed, buffers))
        if far:
            found = f"{far:,} codes are not the nearest to the source's weight, first at {list(first)}; {exactly}"
            yield Fault(packed.codes, found, "nearest codes", f"damaged or changed after packing: {_AGAIN}")
        else:
            found = f"other bytes than packing the source gives, though every code is the nearest; {exactly}"
            yield Fault(
                packed.codes, found, "the same bytes", f"harmless, and not from the same packer: {_AGAIN}", "warning"
            )


def _note(subject: Subject, exact: int, total: int, left: int) -> None:
    if total and exact == total and not left:
        subject.note("faithful", f"all {total:,} packed tensors are exactly what packing the source gives")
    elif total:
        errors = [relative for relative, _ in subject.tensor_errors.values()]
        span = f"; relative errors {min(errors):.4f} to {max(errors):.4f}" if errors else ""
        out = f"; {left:,} not compared: see the findings" if left else ""
        exactly = f"{exact:,} of {total + left:,} packed tensors are exactly what packing the source gives"
        subject.note("faithful", f"{exactly}{span}{out}")


CHECK = Check("packed-weights", "faithful", __doc__, _find, after=("kept-tensors",), needs="source", reads="weights")
