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
from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING

from pytest_q3omni.errors import FormatError
from pytest_q3omni.omni.checkpoint import Checkpoint
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
    buffers = Buffers()
    compared = in_order(lambda packed: rederived(subject, packed, buffers), chain.from_iterable(groups))
    for group in groups:
        subject.progress("compare packed weights", done, total)
        results = list(islice(compared, len(group)))
        try:
            largest = _largest(source, group, results, buffers)
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
            if errors.worst_share > _SLACK and not same:
                told += 1
                yield _fault(packed, errors, _cause(subject, packed, buffers) if told <= _CAUSES else "")
            elif not same:
                other.append(packed)
    yield from _not_nearest(subject, other, exact, total)
    subject.uncompared += left
    _note(subject, exact, total, left)


def _largest(source: Checkpoint, group: tuple[Packed, ...], results: list[Rederived], buffers: Buffers) -> np.float32:
    """The largest magnitude of the weights of all members, which the global scale comes from.

    Raises:
        FormatError: a source that holds NaN or Inf, and where.
    """
    import numpy as np

    from pytest_q3omni.nvfp4.codec import amax

    largest = max(result.amax for result in results)
    if not largest < math.inf:
        largest = max(float(amax(source_weight(source, packed, buffers), where=packed.module)) for packed in group)
    return np.float32(largest)


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
