"""Packed codes look like weights: they have signs, and the largest of every block is the largest code there is.

What can be asked without the source; with it `packed-weights` compares every code. A packer scales each block by its
largest weight, which becomes E2M1's 6: the quotient is 6 times 1 +- 2^-4 at most (half a step of the E4M3 scale), and
from 5 on everything is code 7. Where a writer does so in all its tensors, a tensor with blocks that end at a smaller
code was changed afterwards, or its block scales were. Writers that choose scales by another rule (MSE, four over six)
have such blocks everywhere, and are left alone. About half of all weights are negative; a tensor in which none is has
lost its signs. A sample of each tensor is read, 32 KiB at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from pytest_q3omni.nvfp4.format import BLOCK_SIZE
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Packed, Subject

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PIECES, _PIECE = 4, 8192  # bytes of codes that are looked at
_HALF = BLOCK_SIZE // 2
_NORMAL = 0x08  # the first E4M3 code that is no subnormal: below it, half a step is more than 2^-4
_ENOUGH = 256  # codes other than zero, below which shares mean nothing
_ONE_SIGN = 0.001  # share of the rarer sign: of 256 fair coins it is 0.2 or more, but for one case in 10^20
_PLAIN = 0.001  # share of low blocks up to which a writer counts as plain; ours, ModelOpt's and llm-compressor's is 0
_FEW = 3  # tensors, below which there is nobody to compare with
_AGAIN = "pack this module again from the source"


@dataclass(frozen=True)
class _Seen:
    """What the sample of one tensor shows: blocks with a normal scale, those whose largest code is below 7 and the
    first of them; codes other than zero, and the negative ones; the commonest of their eight magnitudes."""

    packed: Packed
    blocks: int
    low: int
    first: int
    nonzero: int
    negative: int
    commonest: int


def _find(subject: Subject) -> Iterator[Fault]:
    if subject.source is not None or not subject.checkpoint.holds_weights:
        return
    seen = [_look(subject, packed) for packed in subject.sound_packed() if _readable(subject, packed)]
    for tensor in seen:
        if tensor.nonzero >= _ENOUGH:
            yield from _signs(tensor)
    shares = [tensor.low / tensor.blocks for tensor in seen if tensor.blocks]
    if len(shares) < _FEW or median(shares) > _PLAIN:
        return
    for tensor in seen:
        if tensor.low and subject.sound(tensor.packed.codes):
            yield _low(tensor)


def _readable(subject: Subject, packed: Packed) -> bool:
    names = (packed.codes, packed.block_scale)
    return all(name in subject.entries and subject.entries[name].info == subject.expected.get(name) for name in names)


def _look(subject: Subject, packed: Packed) -> _Seen:
    import numpy as np

    size = packed.shape[0] * packed.shape[1] // 2
    starts = [0] if size <= _PIECES * _PIECE else [_HALF * (size * n // (_PIECES * _HALF)) for n in range(_PIECES)]
    length = size if len(starts) == 1 else _PIECE
    read = subject.checkpoint.read
    codes = np.concatenate([read(packed.codes, start=s, stop=s + length) for s in starts])
    scales = np.concatenate([read(packed.block_scale, start=s // _HALF, stop=(s + length) // _HALF) for s in starts])
    counts = _counts(codes)
    largest = np.maximum(codes & 0x07, codes >> 4 & 0x07).reshape(-1, _HALF).max(axis=1)
    normal = (scales >= _NORMAL) & (scales < 0x7F) & (largest > 0)
    low = normal & (largest < 7)
    place = int(low.argmax()) if low.any() else 0
    first = place if len(starts) == 1 else (starts[place // (_PIECE // _HALF)] // _HALF) + place % (_PIECE // _HALF)
    magnitudes = counts[1:8] + counts[9:]
    return _Seen(
        packed,
        int(normal.sum()),
        int(low.sum()),
        first,
        int(magnitudes.sum()),
        int(counts[9:].sum()),
        int(magnitudes.max()),
    )


def _counts(codes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each of the 16 codes occurs."""
    import numpy as np

    by_byte = np.bincount(codes, minlength=256).reshape(16, 16)
    counts: NDArray[np.int64] = by_byte.sum(axis=0) + by_byte.sum(axis=1)
    return counts


def _signs(seen: _Seen) -> Iterator[Fault]:
    share = seen.negative / seen.nonzero
    if min(share, 1 - share) < _ONE_SIGN:
        kind = "negative" if share > 0.5 else "positive"
        found = f"{max(share, 1 - share):.2%} of {seen.nonzero:,} codes in a sample are {kind}"
        yield Fault(seen.packed.codes, found, "about half of the weights on either side of 0", _AGAIN)
    elif seen.commonest > 0.95 * seen.nonzero:
        found = f"{seen.commonest / seen.nonzero:.2%} of {seen.nonzero:,} codes in a sample have one magnitude"
        yield Fault(seen.packed.codes, found, "weights of many sizes", _AGAIN)


def _low(seen: _Seen) -> Fault:
    row, block = divmod(seen.first, seen.packed.shape[1] // BLOCK_SIZE)
    return Fault(
        seen.packed.codes,
        f"{seen.low:,} of {seen.blocks:,} blocks in a sample end at a code below the largest, first row {row}, block "
        f"{block}; in half of this checkpoint's tensors none does",
        "a largest code of 7 in every block, as the packer left it",
        f"changed after packing, codes or block scales: {_AGAIN}",
    )


CHECK = Check("code-patterns", "consistent", __doc__, _find, after=("global-scales",), reads="weights")
