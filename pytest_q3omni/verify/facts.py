"""Sizes of a checkpoint, from its headers alone."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from math import prod
from typing import NamedTuple

from pytest_q3omni.omni.checkpoint import Checkpoint
from pytest_q3omni.omni.naming import in_layer
from pytest_q3omni.omni.safetensors_file import nbytes
from pytest_q3omni.omni.stages import stage_of, stages
from pytest_q3omni.records import Facts, Numerics, StageSize, TensorInfo
from pytest_q3omni.verify.subject import Subject, is_linear

OTHER = "other"
"""Tensors outside every stage: they count in the totals."""

_SCALES = ("k_scale", "v_scale", "pre_quant_scale")


def facts(subject: Subject) -> Facts:
    """Parameters, bytes and ratios. A packed weight counts out * in parameters, scales count none.

    The compression ratio compares with the source over the stages that both have; without a source, or a common
    stage, with 2 bytes for each parameter.
    """
    sizes = _compared(subject, _stage)
    plan = list(planned(subject))
    there = set() if subject.source is None else {_stage(tensor.name) for tensor in subject.source.tensors}
    shared = [size for name, size in sizes.items() if name in there] or list(sizes.values())
    parameters, stored = (
        sum(size.parameters for size in sizes.values()),
        sum(size.tensor_bytes for size in sizes.values()),
    )
    return Facts(
        parameters=parameters,
        tensor_bytes=stored,
        bits_per_parameter=_ratio(8 * stored, parameters),
        compression_ratio=_ratio(sum(size.source_bytes for size in shared), sum(size.tensor_bytes for size in shared)),
        planned_compression_ratio=_ratio(sum(row.source_bytes for row in plan), sum(row.target_bytes for row in plan)),
        quantized_fraction=_ratio(sum(size.packed_parameters for size in sizes.values()), parameters),
        planned_quantized_fraction=_ratio(
            sum(row.parameters for row in plan if row.numerics), sum(row.parameters for row in plan)
        ),
        stages={name: sizes[name] for name in _flow(sizes)},
        layers=dict(sorted(_compared(subject, _layer).items(), key=lambda item: _in_flow(item[0]))),
    )


class Planned(NamedTuple):
    """What config and declaration together plan for one tensor; numerics None where it stays unpacked."""

    module: str
    parameters: int
    source_bytes: int
    target_bytes: int
    numerics: Numerics | None


def planned(subject: Subject) -> Iterator[Planned]:
    """The plan that the checkpoint's own config states, tensor by tensor."""
    for tensor in subject.implied.values():
        module = tensor.name.removesuffix(".weight")
        numerics = subject.claim.numerics(module) if subject.claim is not None and is_linear(tensor) else None
        targets = (tensor,) if numerics is None else subject.layout.targets(tensor, numerics)
        yield Planned(module, prod(tensor.shape), nbytes(tensor), sum(map(nbytes, targets)), numerics)


def _ratio(above: int, below: int) -> float:
    return above / below if below else 0.0


def _compared(subject: Subject, place: Callable[[str], str]) -> dict[str, StageSize]:
    """Sizes per place, a name that `place` makes of a tensor's; `source_bytes` are 2 for each parameter where the
    source has nothing there."""
    here = _sizes(subject.checkpoint, subject.suffixes, place)
    there = {} if subject.source is None else _sizes(subject.source, subject.suffixes, place)
    return {
        name: StageSize(parameters, there[name][1] if name in there else 2 * parameters, stored, packed)
        for name, (parameters, stored, packed) in here.items()
    }


def _sizes(
    checkpoint: Checkpoint, suffixes: tuple[str, str, str, str], place: Callable[[str], str]
) -> dict[str, tuple[int, int, int]]:
    """Place -> (parameters, tensor bytes, packed parameters)."""
    totals: dict[str, tuple[int, int, int]] = {}
    names = checkpoint.entries.keys()
    for tensor in checkpoint.tensors:
        name = place(tensor.name)
        parameters, packed = _parameters(tensor, names, suffixes)
        total = totals.get(name, (0, 0, 0))
        totals[name] = (total[0] + parameters, total[1] + nbytes(tensor), total[2] + packed)
    return totals


def _stage(tensor: str) -> str:
    stage = stage_of(tensor)
    return OTHER if stage is None else stage.name


def _layer(tensor: str) -> str:
    found = in_layer(tensor)
    return ".".join(tensor.split(".")[:-1][:2]) or tensor if found is None else found.layer


def _in_flow(layer: str) -> tuple[int, str, int]:
    """Sorts layers by stage, then stack, then number: 10 comes after 9."""
    order = [*(stage.name for stage in stages()), OTHER]
    found = in_layer(layer)
    stack, number = (layer, 0) if found is None else (found.stack, found.number)
    return order.index(_stage(f"{layer}.")), stack, number


def _flow(totals: Mapping[str, object]) -> Iterator[str]:
    yield from (stage.name for stage in stages() if stage.name in totals)
    if OTHER in totals:
        yield OTHER


def _parameters(tensor: TensorInfo, names: Container[str], suffixes: tuple[str, str, str, str]) -> tuple[int, int]:
    """(parameters, those that are packed) of one stored tensor."""
    module, _, suffix = tensor.name.rpartition(".")
    codes, block_scale, *_ = suffixes
    if suffix in suffixes[1:] or suffix in _SCALES:
        return 0, 0
    count = prod(tensor.shape)
    if suffix == codes and tensor.dtype in ("U8", "I8") and f"{module}.{block_scale}" in names:
        return 2 * count, 2 * count
    return count, 0
