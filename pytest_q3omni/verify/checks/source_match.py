"""The source is the model that this checkpoint was made from.

Instruct, Thinking and Captioner have tensors of the same names and shapes; compared with the wrong one, every tensor
differs. That is one fault, not thousands: a sample of unpacked and packed tensors is compared first.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.omni.safetensors_file import nbytes
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.comparison import Buffers, comparable, source_weight, stored_values
from pytest_q3omni.verify.subject import Packed, Subject

_SAMPLE = 12
_SMALL = 1 << 20  # bytes of an unpacked tensor in the sample: norms and biases tell models apart as well as matrices
_OTHER_MODEL = 0.5  # relative error of a packed tensor: sound is 0.1, unrelated is 1.4
_FIX = "name the original that this checkpoint was packed from"


def _find(subject: Subject) -> Iterator[Fault]:
    source = subject.source
    if source is None:
        return
    where = str(source.path)
    everything = tuple(subject.implied)
    foreign = [name for name, tensor in subject.implied.items() if not _there(subject, name, tensor.shape)]
    if foreign:
        entry = source.entries.get(foreign[0])
        found = "is missing" if entry is None else f"has dtype {entry.info.dtype} and shape {list(entry.info.shape)}"
        yield Fault(
            where,
            f"{len(foreign):,} of {len(everything):,} tensors do not fit this checkpoint; {foreign[0]} {found}",
            f"BF16 {list(subject.implied[foreign[0]].shape)}, as config.json implies",
            _FIX,
            blames=everything,
        )
        return
    kept, changed = _kept(subject)
    packed, wrong = _packed(subject)
    if 2 * changed > kept and (2 * wrong > packed or not packed):
        yield Fault(
            where,
            f"another model: of a sample {changed} of {kept} unpacked and {wrong} of {packed} packed tensors "
            "have nothing to do with it",
            "the model that this checkpoint was packed from",
            _FIX,
            blames=everything,
        )


def _there(subject: Subject, name: str, shape: tuple[int, ...]) -> bool:
    """True where the source has the tensor in this shape, and in BF16 if it is packed here."""
    entry = None if subject.source is None else subject.source.entries.get(name)
    if entry is None or entry.info.shape != shape:
        return False
    return entry.info.dtype == "BF16" or name.removesuffix(".weight") not in subject.packed


def _spread(names: list[str]) -> list[str]:
    return names[:: max(1, len(names) // _SAMPLE)][:_SAMPLE]


def _kept(subject: Subject) -> tuple[int, int]:
    """(unpacked tensors in the sample, those that differ)."""
    assert subject.source is not None
    small = [
        name
        for name, tensor in subject.implied.items()
        if name in subject.entries and name in subject.expected and subject.sound(name) and nbytes(tensor) <= _SMALL
    ]
    chosen = _spread(small)
    differ = sum(
        subject.checkpoint.read(name).tobytes() != subject.source.read(name).tobytes()
        for name in chosen
        if subject.entries[name].info == subject.source.entries[name].info
    )
    return len(chosen), differ


def _packed(subject: Subject) -> tuple[int, int]:
    """(packed modules in the sample, those without resemblance)."""
    from pytest_q3omni.nvfp4.codec import block_errors

    assert subject.source is not None
    modules = {packed.module: packed for group in comparable(subject) for packed in group}
    buffers = Buffers()
    wrong = 0
    chosen: list[Packed] = [modules[name] for name in _spread(list(modules))]
    for packed in chosen:
        errors = block_errors(source_weight(subject.source, packed, buffers), stored_values(subject, packed, buffers))
        wrong += errors.relative > _OTHER_MODEL
    return len(chosen), wrong


CHECK = Check(
    "source-match",
    "faithful",
    __doc__,
    _find,
    needs="source",
    after=("input-scale-range", "companions", "pickles", "hf-quant-config"),
)
