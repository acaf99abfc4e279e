"""Unpacked weights are numbers: no NaN, no infinity, and no norm, router, embedding or head of zeros.

With the source at hand every byte is compared (`kept-tensors`); without it this is what can be said. A NaN in a norm is
NaN in every answer, and a head of zeros was initialised and never loaded: both load without a word. Routers, and
tensors of up to 128 kB, are read whole, of the others the beginning, the middle and the end: the full-size talker alone
has 6.6 GB. Nothing is read of a checkpoint on a hub.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pytest_q3omni.omni.safetensors_file import Entry
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject, part_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WHOLE = 1 << 17  # bytes
_SAMPLE = 1 << 12  # bytes of each sample of a larger tensor
_WIDTHS = {"BF16": 2, "F16": 2, "F32": 4}
_EXPONENTS = {"BF16": 0x7F80, "F16": 0x7C00, "F32": 0x7F800000}
_ROUTER = ".mlp.gate.weight"
_NEVER_ZERO = ("router", "lm_head", "embeddings")
_COPY = "copy the tensor from the original model"


def _find(subject: Subject) -> Iterator[Fault]:
    if not subject.checkpoint.holds_weights:
        return
    for name in subject.implied:
        entry = subject.entries.get(name)
        if entry is None or entry.info.dtype not in _WIDTHS or not subject.sound(name) or entry.end == entry.begin:
            continue
        found = list(_samples(subject, name, entry))
        wrong = next((told for start, words in found for told in _not_finite(entry, start, words)), "")
        if wrong:
            yield Fault(name, wrong, "finite numbers", _COPY)
        elif _never_zero(name) and not any(_magnitudes(words).any() for _, words in found):
            yield Fault(name, "zeros", "a trained weight", _COPY)


def _samples(subject: Subject, name: str, entry: Entry) -> Iterator[tuple[int, NDArray[np.unsignedinteger[Any]]]]:
    """(byte offset, bit patterns) of what is looked at."""
    import numpy as np

    size, width = entry.end - entry.begin, _WIDTHS[entry.info.dtype]
    starts = [0]
    whole = size <= _WHOLE or name.endswith(_ROUTER)
    if not whole:
        starts += [(size - _SAMPLE) // 2 // width * width, size - _SAMPLE]
    for start in starts:
        stop = size if whole else start + _SAMPLE
        yield start, subject.checkpoint.read(name, start=start, stop=stop).view(np.dtype(f"u{width}"))


def _not_finite(entry: Entry, start: int, words: NDArray[np.unsignedinteger[Any]]) -> Iterator[str]:
    """What to tell of numbers whose exponent is all ones."""
    import numpy as np

    exponent = _EXPONENTS[entry.info.dtype]
    special = (words & exponent) == exponent
    if special.any():
        first = int(special.argmax())
        kind = "NaN" if _magnitudes(words)[first] > exponent else "infinite"
        index = np.unravel_index(start // _WIDTHS[entry.info.dtype] + first, entry.info.shape)
        yield f"{int(special.sum()):,} values are not finite, first {kind} at {[int(number) for number in index]}"


def _magnitudes(words: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.unsignedinteger[Any]]:
    """Bit patterns without the sign."""
    magnitudes: NDArray[np.unsignedinteger[Any]] = words & (2 ** (8 * words.dtype.itemsize - 1) - 1)
    return magnitudes


def _never_zero(name: str) -> bool:
    """True for norms' weights, routers, embeddings and heads; biases and convolutions may be zeros."""
    if not name.endswith(".weight"):
        return False
    parent = name.split(".")[-2]
    part = part_of(name.removesuffix(".weight"))[1]
    return "norm" in parent or (part is not None and part.name in _NEVER_ZERO)


CHECK = Check("finite-values", "consistent", __doc__, _find, after=("shapes", "kept-tensors"), reads="weights")
