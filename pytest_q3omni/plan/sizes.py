"""Sizes: per stage, and how target tensors fill shards."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from pytest_q3omni.errors import InvalidRequest
from pytest_q3omni.omni.checkpoint import SINGLE
from pytest_q3omni.omni.safetensors_file import layout, nbytes
from pytest_q3omni.omni.stages import stages
from pytest_q3omni.records import ShardPlan, StageSize, TensorInfo, TensorPlan

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_size(text: str) -> int:
    """Bytes of a size such as `5GB` (5e9) or `2GiB` (2 x 2^30).

    Raises:
        InvalidRequest: not a positive number with a known unit.
    """
    digits = text.strip().rstrip("BbKkMmGgIi").strip()
    unit = text.strip()[len(digits) :].strip().upper()
    try:
        size = float(digits) * _UNITS[unit]
    except (ValueError, KeyError):
        size = 0.0
    if not 1 <= size < 1 << 62:
        raise InvalidRequest(f"'{text}' is not a size", expected="a number with a unit", fix="write 5GB or 512MiB")
    return int(size)


def stage_sizes(tensors: Iterable[TensorPlan]) -> dict[str, StageSize]:
    """Sizes per stage in the order of the data flow; only stages that have tensors."""
    totals: dict[str, list[int]] = {}
    for tensor in tensors:
        count = prod(tensor.source.shape)
        total = totals.setdefault(tensor.stage, [0, 0, 0, 0])
        target_bytes = sum(map(nbytes, tensor.targets))
        for position, amount in enumerate(
            (count, nbytes(tensor.source), target_bytes, count * (tensor.action == "nvfp4"))
        ):
            total[position] += amount
    return {stage.name: StageSize(*totals[stage.name]) for stage in stages() if stage.name in totals}


def fill_shards(targets: Iterable[TensorInfo], max_shard_bytes: int) -> tuple[ShardPlan, ...]:
    """Target tensors, sorted by name, filled into shards of at most `max_shard_bytes` of tensor data.

    A larger tensor gets a shard of its own. One shard is `model.safetensors`, several are numbered as on the hub.
    """
    groups: list[list[TensorInfo]] = []
    filled = 0
    for tensor in sorted(targets, key=lambda tensor: tensor.name):
        size = nbytes(tensor)
        if not groups or filled + size > max_shard_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(tensor)
        filled += size
    names = (
        [SINGLE]
        if len(groups) == 1
        else [f"model-{number:05d}-of-{len(groups):05d}.safetensors" for number in range(1, len(groups) + 1)]
    )
    return tuple(_shard(name, group) for name, group in zip(names, groups, strict=True))


def _shard(name: str, tensors: list[TensorInfo]) -> ShardPlan:
    written = layout(tensors)
    return ShardPlan(name, written.tensors, len(written.header), written.data_bytes)
