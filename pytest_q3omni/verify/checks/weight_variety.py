"""Packed weights look like weights: their block scales vary, and no two layers are the same.

Without the source nobody can tell whether a scale is right, but weights that training made are never alike. Block
scales that are all one number were initialised and never written (`torch.ones` is what a loader starts from). Two
layers with the same bytes are one layer, stored under two names: an error of a script, unless somebody built a model
out of copies, so a warning. Two experts of one layer with the same bytes are an error: a router that chooses between
them gains nothing. With the source it is none, since `packed-weights` found each of them to be what the source has. The
beginning of each tensor is looked at, and where two agree, all of them; of a checkpoint on a hub nothing is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_q3omni.omni.naming import experts_module
from pytest_q3omni.records import Severity
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Packed, Subject

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SCALES = 4096  # bytes of block scales that are looked at
_CODES = 1024  # and of codes
_AGAIN = "pack this module again from the source"
_FEW = 64  # block scales that may be alike by chance
_LEAST = 1  # E4M3's 2^-9: over all weights that vanish beside the rest of their group


def _find(subject: Subject) -> Iterator[Fault]:
    if not subject.checkpoint.holds_weights:
        return
    seen: dict[bytes, Packed] = {}
    for packed in subject.sound_packed():
        scales = _begin(subject, packed.block_scale, _SCALES)
        if scales is None or len(scales) < _FEW:
            continue
        twin = seen.setdefault(scales.tobytes(), packed)
        if scales[0] > _LEAST and (scales == scales[0]).all():
            if _weighs(subject, packed):
                found = f"the first {len(scales):,} block scales are all 0x{int(scales[0]):02x}"
                yield Fault(packed.block_scale, found, "scales that differ, as weights do", _AGAIN)
        elif twin is not packed and _weighs(subject, packed) and _same(subject, packed, twin):
            found = f"the same codes and block scales as {twin.module}"
            fix = "compare the source: copy the right layer, if they differ there"
            yield Fault(packed.codes, found, "a weight of its own", fix, _severity(subject, packed, twin))


def _severity(subject: Subject, packed: Packed, twin: Packed) -> Severity:
    """An error for two experts of one layer, unless a source has them, too."""
    experts = experts_module(packed.module)
    return "error" if experts and experts == experts_module(twin.module) and subject.source is None else "warning"


def _begin(subject: Subject, name: str, count: int) -> NDArray[np.uint8] | None:
    entry = subject.entries.get(name)
    return None if entry is None else subject.checkpoint.read(name, stop=min(count, entry.end - entry.begin))


def _weighs(subject: Subject, packed: Packed) -> bool:
    """True where the first codes are not all zeros; a layer of zeros may have any scales."""
    codes = _begin(subject, packed.codes, _CODES)
    return codes is not None and bool((codes & 0x77).any())


def _same(subject: Subject, packed: Packed, twin: Packed) -> bool:
    """True where codes and block scales are equal to the last byte."""
    pairs = ((packed.codes, twin.codes), (packed.block_scale, twin.block_scale))
    return all(subject.checkpoint.read(one).tobytes() == subject.checkpoint.read(two).tobytes() for one, two in pairs)


CHECK = Check("weight-variety", "consistent", __doc__, _find, after=("block-scales", "packed-weights"), reads="scales")
