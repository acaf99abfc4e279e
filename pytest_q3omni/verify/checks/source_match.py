"""The source is the model that this checkpoint was made from.

Instruct, Thinking and Captioner have tensors of the same names and shapes; compared with the wrong one, every tensor
differs. That is one fault, not thousands. So a sample is compared before anything else, and a foreign source is then
left out of the other checks.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.omni.safetensors_file import nbytes
from pytest_q3omni.omni.stages import stage_of
from pytest_q3omni.records import TensorInfo
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.comparison import Buffers, comparable, source_weight, stored_values
from pytest_q3omni.verify.subject import Packed, Subject

_SAMPLE = 12
_SMALL = 1 << 20  # bytes of an unpacked tensor in the sample: norms and biases tell models apart as well as matrices
_OTHER_MODEL = 0.5  # relative error of a packed tensor: sound is 0.1, unrelated is 1.4
_FIX = "name the original that this checkpoint was packed from"


def _find(subject: Subject) -> Iterator[Fault]:
    if subject.source is None:
        return
    where = str(subject.source.path)
    fault = _foreign_tensors(subject, where) or _foreign_values(subject, where)
    if fault is not None:
        yield fault
        subject.drop_source()


def _foreign_tensors(subject: Subject, where: str) -> Fault | None:
    """A fault where the source lacks tensors of this model, and this checkpoint's config and tensors agree."""
    foreign = [name for name, tensor in subject.implied.items() if not _there(subject, name, tensor.shape)]
    if not foreign or not _agrees_with_itself(subject):
        return None
    first = subject.implied[foreign[0]]
    entry = None if subject.source is None else subject.source.entries.get(first.name)
    has = "which it lacks" if entry is None else f"which it has as {entry.info.dtype} {list(entry.info.shape)}"
    return Fault(
        where,
        f"another model: {len(foreign):,} of {len(subject.implied):,} tensors do not fit, first {first.name}, {has}",
        f"BF16 {list(first.shape)}, as in this checkpoint's config",
        _FIX,
    )


def _there(subject: Subject, name: str, shape: tuple[int, ...]) -> bool:
    """True where the source has the tensor in this shape, and in BF16 if it is packed here."""
    entry = None if subject.source is None else subject.source.entries.get(name)
    if entry is None or entry.info.shape != shape:
        return False
    return entry.info.dtype == "BF16" or name.removesuffix(".weight") not in subject.packed


def _agrees_with_itself(subject: Subject) -> bool:
    """True where all tensors that the config implies are there, in shape: then it is not the config that is wrong."""
    entries = subject.entries
    complete = all(name in entries and entries[name].info.shape == tensor.shape for name, tensor in _solid(subject))
    return complete and all(name in subject.expected or stage_of(name) is None for name in entries)


def _solid(subject: Subject) -> Iterator[tuple[str, TensorInfo]]:
    return ((name, tensor) for name, tensor in subject.expected.items() if tensor.shape)


def _foreign_values(subject: Subject, where: str) -> Fault | None:
    """A fault where a sample of unpacked and of packed tensors has nothing to do with the source."""
    kept, changed = _kept(subject)
    packed, wrong = _packed(subject)
    if 2 * changed <= kept or (packed and 2 * wrong <= packed):
        return None
    found = f"another model: in a sample, {changed} of {kept} unpacked tensors differ"
    found += f", and {wrong} of {packed} packed ones are unlike it" if packed else ""
    return Fault(where, found, "the model that this checkpoint was packed from", _FIX)


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
    after=("container",),
    reads="weights",
)
