"""Packed codes look like weights: they have signs, and the largest of every block is the largest code there is.

What can be asked without the source; with it `packed-weights` compares every code. A packer scales each block by its
largest weight, which becomes E2M1's 6: the quotient is 6 times 1 +- 2^-4 at most (half a step of the E4M3 scale), and
from 5 on everything is code 7. Where a writer does so in all its tensors, it is plain, and three more things follow.

- A tensor with blocks that end at a smaller code was changed afterwards, or its block scales were.
- A block of zeros was one in the weight, and has the writer's constant for it: 1 (ModelOpt, ours), 0.125
  (compressed-tensors), 0 (kernels), or the least scale a writer allows, 2^-9 or, in torchao, 2^-6. Weights that vanish
  beside the rest of their group have such a least scale, too. Any other scale was that of weights that are gone.
- The global scale is the largest weight of the fused group / 2688, within 2^-7 even where it was rounded to BF16 twice.
  So the block with that weight wants a scale of 448 within 2^-6, and 432 (2^-5 less) already rounds to 448: the largest
  scale of every group is 0x7e. Where nine in ten groups have it, another one was changed.

Writers that choose scales by another rule (MSE, four over six) have low blocks or smaller scales everywhere, and are
left alone, as is a kind of module in which most have what is odd elsewhere. One that only shrinks scales, for the least
squared error, has no low blocks, and a largest scale below 0x7e in 1 to 10 % of the groups (simulated). It is never
below 0x79: shrunk to a share r, the largest weight is off by 1 - r, and each of the other fifteen gains at most 1/12
squared up to r = 2/3, where E2M1's steps are 1/6 of the largest; so (1 - r)^2 <= 15/144, r >= 0.67. Hence 0x79 to 0x7d
count only where they are rare, and in a small checkpoint, which cannot tell rare, as a warning.

Whatever the writer: half of all weights are negative; some blocks of every tensor end at code 7; and since large
weights are rarer than small ones, no magnitude is absent between two that are common. (Weights that were INT4 before
lack the smallest alone.) Blocks do not repeat one byte. A sample of each tensor's codes is read, 32 KiB at most; the
block scales were read by `block-scales`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from pytest_q3omni.nvfp4.format import BLOCK_SIZE, E4M3_MAX_CODE
from pytest_q3omni.omni.naming import fused_group
from pytest_q3omni.records import Severity
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Packed, Subject

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PIECES, _PIECE = 4, 8192  # bytes of codes that are looked at
_HALF = BLOCK_SIZE // 2
_NORMAL = 0x08  # the first E4M3 code that is no subnormal: below it, half a step is more than 2^-4
_ZERO_SCALES = (0x20, 0x38)  # beside those up to _NORMAL: 0.125 and 1, over a block of zeros
_ENOUGH = 256  # codes other than zero, below which shares mean nothing
_MANY = 2048  # codes other than zero, of which every magnitude has some
_COMMON = 0.05  # share of a magnitude; a smaller one then has a third of it or more, by the widths of E2M1's steps:
# that none of 2,048 codes has it is one case in 10^14
_LOW_BITS, _MAGNITUDES, _BYTES = 0x1111_1111_1111_1111, 0x7777_7777_7777_7777, 0x0101_0101_0101_0101  # of one block
_REPEATED = 4  # blocks of one repeated byte; by chance a block is one in 1 of 10^12 cases, of a ternary weight in 10^6
_ONE_SIGN = 0.001  # share of the rarer sign: of 256 fair coins it is 0.2 or more, but for one case in 10^20
_PLAIN = 0.001  # share of low blocks up to which a writer counts as plain; ours, ModelOpt's and llm-compressor's is 0
_FULL = 0.9  # share of the groups whose largest block scale is 0x7e; of plain writers all
_SHRUNK = 0x79  # the least that a writer may have made of 0x7e by shrinking
_RARE = 0.002  # share of the groups that no such writer stays below: five times less than the least simulated
_FEW = 3  # tensors, below which there is nobody to compare with
_AGAIN = "pack this module again from the source"


class _Blocks(NamedTuple):
    """Some blocks of a tensor: how many, and the number of the first, if there is one."""

    total: int
    first: int


@dataclass(frozen=True)
class _Seen:
    """What the sample of one tensor shows.

    blocks: how many have a normal scale; low: those of them whose largest code is below 7. emptied: blocks of zeros
    under a scale that no writer gives them; scale: that of the first. repeated: blocks of one byte that is not zero.
    magnitudes: how often 1 to 7 occur, by either sign; negative: codes of either of them with a sign.
    """

    packed: Packed
    blocks: int
    low: _Blocks
    emptied: _Blocks
    scale: int
    repeated: _Blocks
    magnitudes: tuple[int, ...]
    negative: int

    @property
    def nonzero(self) -> int:
        return sum(self.magnitudes)

    @property
    def hole(self) -> int:
        """The first magnitude that does not occur, and should: 7, or one between two that are common; 0 if none."""
        if self.nonzero < _MANY:
            return 0
        common = [m for m in range(1, 7) if self.magnitudes[m - 1] > _COMMON * self.nonzero]
        largest = (7,) if self.blocks * BLOCK_SIZE >= _MANY else ()  # the least scale is over any smaller weights
        wanted = (*largest, *range(min(common, default=0), max(common, default=0)))
        return next((m for m in wanted if not self.magnitudes[m - 1]), 0)

    def place(self, blocks: _Blocks) -> str:
        row, block = divmod(blocks.first, self.packed.shape[1] // BLOCK_SIZE)
        return f"{blocks.total:,} of the blocks in a sample (first: row {row}, block {block})"


def _find(subject: Subject) -> Iterator[Fault]:
    if subject.source is not None or not subject.checkpoint.holds_weights:
        return
    seen = [_look(subject, packed) for packed in subject.sound_packed() if _readable(subject, packed)]
    for tensor in seen:
        if tensor.nonzero >= _ENOUGH:
            yield from _signs(tensor)
    for tensor in seen:
        if tensor.hole == 7 and subject.sound(tensor.packed.codes):
            yield _hole(tensor)
    for tensor in _odd(seen, [tensor for tensor in seen if tensor.hole]):
        if subject.sound(tensor.packed.codes):
            yield _hole(tensor)
    for tensor in _odd(seen, [tensor for tensor in seen if tensor.repeated.total >= _REPEATED]):
        if subject.sound(tensor.packed.codes):
            yield _repeated(tensor)
    shares = [tensor.low.total / tensor.blocks for tensor in seen if tensor.blocks]
    if len(shares) < _FEW or median(shares) > _PLAIN:
        return
    for tensor in seen:
        if tensor.low.total and subject.sound(tensor.packed.codes):
            yield _low(tensor)
        elif tensor.emptied.total and subject.sound(tensor.packed.codes):
            yield _emptied(tensor)
    yield from _not_full(subject, seen)


def _odd(seen: Sequence[_Seen], found: Sequence[_Seen]) -> list[_Seen]:
    """Those of `found` that are exceptions: not where most of the checkpoint, or of their kind of module, is found."""
    if 2 * len(found) > len(seen):
        return []
    all_, odd = (Counter(_kind(tensor.packed.module) for tensor in tensors) for tensors in (seen, found))
    usual = {kind for kind, count in odd.items() if all_[kind] >= _FEW and 2 * count > all_[kind]}
    return [tensor for tensor in found if _kind(tensor.packed.module) not in usual]


def _kind(module: str) -> str:
    """A module's name without the numbers of its layer and expert."""
    return ".".join("*" if part.isdigit() else part for part in module.split("."))


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
    each = codes.view(np.uint64)  # one block
    zeros, full = each & _MAGNITUDES == 0, each & each >> 1 & each >> 2 & _LOW_BITS != 0
    normal = (scales >= _NORMAL) & (scales < 0x7F) & ~zeros
    emptied = zeros & (scales > _NORMAL) & (scales != _ZERO_SCALES[0]) & (scales != _ZERO_SCALES[1])

    def blocks(mask: NDArray[np.bool_]) -> _Blocks:
        piece, place = divmod(int(mask.argmax()), length // _HALF)
        return _Blocks(int(np.count_nonzero(mask)), starts[piece] // _HALF + place)

    return _Seen(
        packed,
        int(np.count_nonzero(normal)),
        low=blocks(normal & ~full),
        emptied=blocks(emptied),
        scale=int(scales[emptied.argmax()]),
        repeated=blocks(~zeros & (each == (each & 0xFF) * _BYTES)),
        magnitudes=tuple((counts[1:8] + counts[9:]).tolist()),
        negative=int(counts[9:].sum()),
    )


def _counts(codes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each of the 16 codes occurs."""
    import numpy as np

    by_byte = np.bincount(codes, minlength=256).reshape(16, 16)
    counts: NDArray[np.int64] = by_byte.sum(axis=0) + by_byte.sum(axis=1)
    return counts


def _signs(seen: _Seen) -> Iterator[Fault]:
    share, commonest = seen.negative / seen.nonzero, max(seen.magnitudes)
    if min(share, 1 - share) < _ONE_SIGN:
        kind = "negative" if share > 0.5 else "positive"
        found = f"{max(share, 1 - share):.2%} of {seen.nonzero:,} codes in a sample are {kind}"
        yield Fault(seen.packed.codes, found, "about half of the weights on either side of 0", _AGAIN)
    elif commonest > 0.95 * seen.nonzero:
        found = f"{commonest / seen.nonzero:.2%} of {seen.nonzero:,} codes in a sample have one magnitude"
        yield Fault(seen.packed.codes, found, "weights of many sizes", _AGAIN)


def _hole(seen: _Seen) -> Fault:
    absent = ", ".join(str(m) for m in range(1, 8) if not seen.magnitudes[m - 1])
    return Fault(
        seen.packed.codes,
        f"of {seen.nonzero:,} codes other than zero in a sample, none has magnitude {absent}",
        "codes of every magnitude, 1 to 7",
        f"bits of the codes were lost or set after packing: {_AGAIN}",
    )


def _repeated(seen: _Seen) -> Fault:
    found = f"{seen.place(seen.repeated)} repeat one byte"
    return Fault(seen.packed.codes, found, "blocks of sixteen weights", f"overwritten after packing: {_AGAIN}")


def _low(seen: _Seen) -> Fault:
    return Fault(
        seen.packed.codes,
        f"{seen.place(seen.low)} end at a code below the largest; in half of this checkpoint's tensors none does",
        "a largest code of 7 in every block, as the packer left it",
        f"changed after packing, codes or block scales: {_AGAIN}",
    )


def _emptied(seen: _Seen) -> Fault:
    return Fault(
        seen.packed.codes,
        f"{seen.place(seen.emptied)} are all zeros under a block scale of weights that are not, 0x{seen.scale:02x}",
        "over zeros the scale that packers give them: 1, 0.125, 0 or the least",
        f"zeroed after packing: {_AGAIN}",
    )


def _not_full(subject: Subject, seen: Iterable[_Seen]) -> Iterator[Fault]:
    """Groups, read to the end, whose largest block scale is not 448, though nearly all have it."""
    groups: dict[str, list[_Seen]] = defaultdict(list)
    for tensor in seen:
        if tensor.packed.block_scale in subject.largest_scales:
            groups[fused_group(tensor.packed.module)].append(tensor)
    read = {tensor.packed.module for members in groups.values() for tensor in members}
    for linear in subject.linears:
        if linear.module not in read:
            groups.pop(fused_group(linear.module), None)
    largest = subject.largest_scales
    tops = [max(members, key=lambda tensor: largest[tensor.packed.block_scale]) for members in groups.values()]
    less = [top for top in tops if largest[top.packed.block_scale] < E4M3_MAX_CODE]
    if len(less) > (1 - _FULL) * len(tops):
        return
    shrunk = [top for top in less if largest[top.packed.block_scale] >= _SHRUNK]
    rare = len(shrunk) <= max(1, _RARE * len(tops))
    for top in _odd(tops, less):
        members, far = groups[fused_group(top.packed.module)], largest[top.packed.block_scale] < _SHRUNK
        weighs = any(tensor.nonzero for tensor in members)
        if (far or rare) and weighs and subject.sound(*(tensor.packed.codes for tensor in members)):
            certain = far or _RARE * len(tops) >= 1
            yield _less(subject, top, [tensor.packed for tensor in members], "error" if certain else "warning")


def _less(subject: Subject, top: _Seen, members: Sequence[Packed], severity: Severity) -> Fault:
    others = ", ".join(packed.module.rpartition(".")[2] for packed in members if packed is not top.packed)
    shared = f" (no larger one in {others}, with which it is fused)" if others else ""
    return Fault(
        top.packed.block_scale,
        f"the largest block scale is 0x{subject.largest_scales[top.packed.block_scale]:02x}{shared}; in nine of ten "
        "groups of this checkpoint it is 0x7e",
        "448 (0x7e) for the block of the largest weight: the global scale is that weight / 2688",
        f"block scales changed after packing, or packed with another module's global scale: {_AGAIN}",
        severity,
        blames=tuple(packed.block_scale for packed in members),
    )


CHECK = Check(
    "code-patterns",
    "consistent",
    __doc__,
    _find,
    after=("global-scales", "shared-scales", "block-scales", "weight-variety"),
    reads="weights",
)
