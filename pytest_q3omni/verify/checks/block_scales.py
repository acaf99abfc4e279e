"""Every block scale is a positive number: E4M3 codes 0x01 to 0x7e.

0x7f and 0xff are NaN, the sign bit makes a whole block negative, and zero erases the 16 weights under it: an
underflow in the FP8 cast (ModelOpt#1382). A zero over codes that are all zero changes nothing and is let pass; to tell,
the codes are read, until enough tensors were found wrong that reading 15 GB more would add nothing. Of a checkpoint on
a hub no codes are read: a zero is a warning there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_q3omni.nvfp4.format import BLOCK_SIZE, E4M3_MAX_CODE
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.reading import Piece, affordable, pieces
from pytest_q3omni.verify.subject import Packed, Subject

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_READ_BACK = 50  # tensors with zeros over non-zero codes, after which the codes under further zeros are not read
_SHARE = 0.75  # of the block scales that may be fetched from a hub; the rest is for the ranges of inputs


@dataclass
class _Bad:
    """What is wrong in one tensor: how many of each kind, and the first block of any."""

    nan: int = 0
    negative: int = 0
    zero: int = 0
    unread: int = 0  # zeros whose codes were not looked at
    first: int = -1


def _find(subject: Subject) -> Iterator[Fault]:
    modules = {packed.block_scale: packed for packed in subject.sound_packed() if _readable(subject, packed)}
    bad: dict[str, _Bad] = {}
    erased: set[str] = set()
    held = subject.checkpoint.holds_weights
    chosen = affordable(subject.checkpoint, modules, _SHARE * subject.checkpoint.storage.budget)
    if len(chosen) < len(modules):
        part = f"block scales of {len(chosen):,} of {len(modules):,} tensors read, evenly spread"
        subject.note("consistent", f"{part}; --all-scales reads all")
    for number, piece in enumerate(pieces(subject.checkpoint, chosen)):
        if not held:
            subject.progress("fetch block scales", min(number, len(chosen)), len(chosen))
        least, largest = _range(piece.data)
        subject.largest_scales[piece.name] = max(largest, subject.largest_scales.get(piece.name, 0))
        if least < 1 or largest > E4M3_MAX_CODE:
            found = bad.setdefault(piece.name, _Bad())
            _count(subject, modules[piece.name], piece, found, read_back=held and len(erased) < _READ_BACK)
            if found.zero:
                erased.add(piece.name)
    for name, found in bad.items():
        if found.first >= 0:
            zeros_only = not (found.nan or found.negative or found.zero)
            yield _zeros(modules[name], found) if zeros_only and not held else _fault(modules[name], found)


def _readable(subject: Subject, packed: Packed) -> bool:
    entry, (out, inner) = subject.entries.get(packed.block_scale), packed.shape
    return entry is not None and entry.info.dtype == "F8_E4M3" and entry.info.shape == (out, inner // BLOCK_SIZE)


def _range(data: NDArray[np.uint8]) -> tuple[int, int]:
    """The least and the largest code as signed numbers: those with a sign bit are below 0."""
    import numpy as np

    signed = data.view(np.int8)
    return int(signed.min(initial=1)), int(signed.max(initial=1))


def _count(subject: Subject, packed: Packed, piece: Piece, bad: _Bad, *, read_back: bool) -> None:
    import numpy as np

    magnitude = piece.data & 0x7F
    nan, negative = magnitude == 0x7F, (piece.data > 0x80) & (piece.data < 0xFF)
    zero = magnitude == 0
    if read_back and zero.any():
        zero[~_weights(subject, packed, piece)] = False
    any_kind = nan | negative | zero
    if bad.first < 0 and any_kind.any():
        bad.first = piece.start + int(any_kind.argmax())
    bad.nan += int(np.count_nonzero(nan))
    bad.negative += int(np.count_nonzero(negative))
    if read_back:
        bad.zero += int(np.count_nonzero(zero))
    else:
        bad.unread += int(np.count_nonzero(zero))


def _weights(subject: Subject, packed: Packed, piece: Piece) -> NDArray[np.bool_]:
    """For each block of the piece, whether it has a code other than 0 and -0; true where the codes cannot be read."""
    import numpy as np

    entry, half = subject.entries.get(packed.codes), BLOCK_SIZE // 2
    if entry is None or entry.info.shape != (packed.shape[0], packed.shape[1] // 2):
        return np.ones(len(piece.data), np.bool_)
    start, stop = piece.start * half, (piece.start + len(piece.data)) * half
    codes = subject.checkpoint.read(packed.codes, start=start, stop=stop)
    return np.asarray((codes & 0x77).reshape(-1, half).any(axis=1))


def _fault(packed: Packed, bad: _Bad) -> Fault:
    kinds = {"NaN": bad.nan, "negative": bad.negative, "zero over non-zero codes": bad.zero}
    kinds["zero (codes not read)"] = bad.unread
    told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
    total = packed.shape[0] * packed.shape[1] // BLOCK_SIZE
    row, block = divmod(bad.first, packed.shape[1] // BLOCK_SIZE)
    return Fault(
        packed.block_scale,
        f"{told} of {total:,} block scales, first at row {row}, block {block}",
        "finite scales above 0 (E4M3 codes 0x01 to 0x7e)",
        "pack this module again from the source",
    )


def _zeros(packed: Packed, bad: _Bad) -> Fault:
    total = packed.shape[0] * packed.shape[1] // BLOCK_SIZE
    return Fault(
        packed.block_scale,
        f"{bad.unread:,} of {total:,} block scales are zero; whether the codes under them are, too, was not read",
        "scales above 0, or zero over codes that are all zero",
        "download the checkpoint, and judge its directory",
        "warning",
    )


CHECK = Check("block-scales", "consistent", __doc__, _find, after=("dtypes",), reads="scales")
