"""Every block scale is a positive number: E4M3 codes 0x01 to 0x7e.

0x7f and 0xff are NaN, the sign bit makes a whole block negative, and zero erases the 16 weights under it: an
underflow in the FP8 cast (ModelOpt#1382). A zero over codes that are all zero changes nothing and is let pass.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_q3omni.nvfp4.format import BLOCK_SIZE, E4M3_MAX_CODE
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.reading import pieces
from pytest_q3omni.verify.subject import Packed, Subject

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def _find(subject: Subject) -> Iterator[Fault]:
    modules = {packed.block_scale: packed for packed in subject.sound_packed() if _readable(subject, packed)}
    suspects: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for piece in pieces(subject.checkpoint, modules):
        if _suspicious(piece.data):
            suspects[piece.name] += [(piece.start + index, code) for index, code in _bad(piece.data)]
    for name, bad in suspects.items():
        fault = _fault(subject, modules[name], bad)
        if fault is not None:
            yield fault


def _readable(subject: Subject, packed: Packed) -> bool:
    entry, (out, inner) = subject.entries.get(packed.block_scale), packed.shape
    return entry is not None and entry.info.dtype == "F8_E4M3" and entry.info.shape == (out, inner // BLOCK_SIZE)


def _suspicious(data: NDArray[np.uint8]) -> bool:
    """True where any code is not in 0x01 .. 0x7e: one subtraction, which wraps 0 around, and one maximum."""
    import numpy as np

    return bool(np.subtract(data, 1, dtype=np.uint8).max(initial=0) >= E4M3_MAX_CODE)


def _bad(data: NDArray[np.uint8]) -> list[tuple[int, int]]:
    import numpy as np

    return [
        (int(i), int(data[i])) for i in np.flatnonzero(np.subtract(data, 1, dtype=np.uint8) >= E4M3_MAX_CODE)[:10_000]
    ]


def _fault(subject: Subject, packed: Packed, bad: list[tuple[int, int]]) -> Fault | None:
    nan = [index for index, code in bad if code & 0x7F == 0x7F]
    negative = [index for index, code in bad if 0x80 < code < 0xFF]
    zero = [index for index, code in bad if not code & 0x7F]
    if zero:
        zero = _over_weights(subject, packed, zero)
    kinds = {"NaN": nan, "negative": negative, "zero over non-zero codes": zero}
    if not any(kinds.values()):
        return None
    told = ", ".join(f"{len(found):,} {kind}" for kind, found in kinds.items() if found)
    total = packed.shape[0] * packed.shape[1] // BLOCK_SIZE
    row, block = divmod(min(nan + negative + zero), packed.shape[1] // BLOCK_SIZE)
    return Fault(
        packed.block_scale,
        f"{told} of {total:,} block scales, first at row {row}, block {block}",
        "finite scales above 0 (E4M3 codes 0x01 to 0x7e)",
        "pack this module again from the source",
    )


def _over_weights(subject: Subject, packed: Packed, zero: list[int]) -> list[int]:
    """The zero scales whose block has a code other than 0 (and -0)."""
    entry = subject.entries.get(packed.codes)
    if entry is None or entry.info.shape != (packed.shape[0], packed.shape[1] // 2):
        return zero
    half = BLOCK_SIZE // 2
    read = subject.checkpoint.read
    return [index for index in zero if (read(packed.codes, start=index * half, stop=(index + 1) * half) & 0x77).any()]


CHECK = Check("block-scales", "consistent", __doc__, _find, after=("dtypes",))
