"""Sizes of a checkpoint, from its headers alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from math import prod
from typing import NamedTuple

from pytest_q3omni.layouts import Suffixes
from pytest_q3omni.omni.checkpoint import Checkpoint
from pytest_q3omni.omni.config import MODEL_TYPE
from pytest_q3omni.omni.naming import in_layer
from pytest_q3omni.omni.safetensors_file import nbytes
from pytest_q3omni.omni.stages import stage_of, stages
from pytest_q3omni.records import Facts, Scheme, StageSize, TensorInfo
from pytest_q3omni.verify.subject import Subject

OTHER = "other"
"""Tensors outside every stage: they count in the totals."""

_SCALES = ("k_scale", "v_scale", "pre_quant_scale", "weight_scale", "input_scale")


def facts(subject: Subject) -> Facts:
    """Parameters, bytes and ratios. A packed weight counts out * in parameters, scales count none.

    The compression ratio compares with the source over the stages that both have; without a source, or a common
    stage, with 2 bytes for each parameter.
    """
    own = subject.checkpoint.config.get("model_type") == MODEL_TYPE
    here, there = _by_layer(subject.checkpoint, subject.suffixes), _Totals()
    if subject.source is not None:
        there = _by_layer(subject.source, subject.suffixes)
    stages_here, stages_there = _by_stage(here, own=own), _by_stage(there, own=own)
    sizes = _compared(stages_here, stages_there)
    plan = list(planned(subject))
    shared = [size for name, size in sizes.items() if name in stages_there] or list(sizes.values())
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
            sum(row.parameters for row in plan if row.scheme in ("w4a4", "w4a16")),
            sum(row.parameters for row in plan),
        ),
        fp8_fraction=_ratio(sum(size.fp8_parameters for size in sizes.values()), parameters),
        stages={name: sizes[name] for name in _flow(sizes)},
        layers=dict(sorted(_compared(here, there).items(), key=lambda item: _in_flow(item[0]))),
    )


class Planned(NamedTuple):
    """What config and declaration together plan for one tensor; scheme None where it stays as it is."""

    module: str
    parameters: int
    source_bytes: int
    target_bytes: int
    scheme: Scheme | None


def planned(subject: Subject) -> Iterator[Planned]:
    """The plan that the checkpoint's own config states, tensor by tensor."""
    schemes = {} if subject.claim is None else {x.module: subject.claim.scheme(x.module) for x in subject.linears}
    sizes: dict[tuple[tuple[int, ...], Scheme], int] = {}  # few shapes, many tensors
    for tensor in subject.implied.values():
        module, stored = tensor.name.removesuffix(".weight"), nbytes(tensor)
        scheme, target = schemes.get(module), stored
        if scheme is not None:
            key = tensor.shape, scheme
            if key not in sizes:
                sizes[key] = sum(map(nbytes, subject.layout.targets(tensor, scheme)))
            target = sizes[key]
        yield Planned(module, prod(tensor.shape), stored, target, scheme)


def _ratio(above: int, below: int) -> float:
    return above / below if below else 0.0


class _Totals(defaultdict[str, list[int]]):
    """Place -> [parameters, tensor bytes, packed parameters, FP8 parameters]."""

    def __init__(self) -> None:
        super().__init__(lambda: [0, 0, 0, 0])

    def add(self, place: str, parameters: int, stored: int, packed: int, fp8: int) -> None:
        total = self[place]
        total[0] += parameters
        total[1] += stored
        total[2] += packed
        total[3] += fp8


def _compared(here: _Totals, there: _Totals) -> dict[str, StageSize]:
    """Sizes per place; `source_bytes` are 2 for each parameter where the source has nothing there."""
    return {
        place: StageSize(parameters, there[place][1] if place in there else 2 * parameters, stored, packed, fp8)
        for place, (parameters, stored, packed, fp8) in here.items()
    }


def _by_layer(checkpoint: Checkpoint, suffixes: Suffixes) -> _Totals:
    totals = _Totals()
    names = checkpoint.entries.keys()
    layers: dict[str, str] = {}  # of modules: the tensors of one are in one layer
    scales = {*suffixes[1:], *_SCALES}  # two of three tensors of a packed checkpoint: they have bytes, no parameters
    for name, entry in checkpoint.entries.items():
        module, _, suffix = name.rpartition(".")
        if module not in layers:
            layers[module] = _layer(module, name)
        stored = entry.end - entry.begin
        if suffix in scales:
            totals[layers[module]][1] += stored
            continue
        parameters, packed, fp8 = _parameters(entry.info, module, suffix, names, suffixes)
        totals.add(layers[module], parameters, stored, packed, fp8)
    return totals


def _by_stage(layers: _Totals, *, own: bool) -> _Totals:
    """Totals of the stages. In a Qwen3-Omni (`own`) what looks like another model's is outside every stage."""
    totals = _Totals()
    for layer, numbers in layers.items():
        stage = stage_of(f"{layer}.")
        totals.add(OTHER if stage is None or (stage.foreign and own) else stage.name, *numbers)
    return totals


def _layer(module: str, tensor: str) -> str:
    found = in_layer(tensor)
    return ".".join(module.split(".")[:2]) or tensor if found is None else found.layer


def _in_flow(layer: str) -> tuple[int, str, int]:
    """Sorts layers by stage, then stack, then number: 10 comes after 9."""
    found, stage = in_layer(layer), stage_of(f"{layer}.")
    stack, number = (layer, 0) if found is None else (found.stack, found.number)
    return len(stages()) if stage is None else stages().index(stage), stack, number


def _flow(totals: Mapping[str, object]) -> Iterator[str]:
    yield from (stage.name for stage in stages() if stage.name in totals)
    if OTHER in totals:
        yield OTHER


def _parameters(
    tensor: TensorInfo, module: str, suffix: str, names: Container[str], suffixes: Suffixes
) -> tuple[int, int, int]:
    """(parameters, those that are packed, those that are FP8) of one stored tensor that is no scale."""
    codes, block_scale, *_ = suffixes
    count = prod(tensor.shape)
    if suffix == codes and tensor.dtype in ("U8", "I8") and f"{module}.{block_scale}" in names:
        return 2 * count, 2 * count, 0
    return count, 0, count if tensor.dtype.startswith("F8_") else 0
