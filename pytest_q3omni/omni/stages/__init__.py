"""The four stages, one file each: tensor prefix, shapes, how to run, and what must stay unpacked and why."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import islice
from typing import Any

from pytest_q3omni.errors import Inconsistent
from pytest_q3omni.omni.config import omni_section
from pytest_q3omni.omni.stages._protocol import Part, Stage
from pytest_q3omni.records import TensorInfo
from pytest_q3omni.registry import load, names

__all__ = ["Part", "Stage", "expected_tensors", "stage_of", "stages"]

_MOST_TENSORS = 1_000_000  # a config from a stranger must not make us list names for ever
_FLOW = ("thinker", "talker", "code_predictor", "code2wav")


@cache
def stages() -> tuple[Stage, ...]:
    """All stages in the order of the data flow; a stage not in `_FLOW` comes last."""
    found: list[Stage] = [load(__name__, name).STAGE for name in names(__name__)]
    return tuple(sorted(found, key=lambda stage: (*_FLOW, stage.name).index(stage.name)))


@cache
def _by_prefix() -> tuple[Stage, ...]:
    return tuple(sorted(stages(), key=lambda stage: -len(stage.prefix)))


def stage_of(tensor: str) -> Stage | None:
    """The stage whose prefix is the longest that the tensor's name begins with, or None."""
    return next((stage for stage in _by_prefix() if tensor.startswith(stage.prefix)), None)


def expected_tensors(config: Mapping[str, Any], place: str = "config.json") -> list[TensorInfo]:
    """Every tensor of a BF16 model of this config, unfused as in files; no weights and no torch needed.

    Raises:
        Inconsistent: not a Qwen3-Omni config, or a field that shapes depend on is missing or wrong.
    """
    section = omni_section(config, place)
    shapes = (shape for stage in stages() if stage.present(section) for shape in stage.tensors(section))
    tensors = [TensorInfo(name, "BF16", shape) for name, shape in islice(shapes, _MOST_TENSORS + 1)]
    if len(tensors) > _MOST_TENSORS:
        raise Inconsistent(
            f"more than {_MOST_TENSORS:,} tensors",
            where=place,
            expected="a Qwen3-Omni of a size that exists (28,010 tensors)",
            fix="check num_hidden_layers and num_experts",
        )
    return tensors
