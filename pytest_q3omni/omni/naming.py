"""How Qwen3-Omni's modules are named, and which of them must share a scale. The one place that knows.

Engines fuse q/k/v into one matrix and gate/up into another; one fused matrix has one global scale and one input scale.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_FUSED = {
    "q_proj": "qkv_proj",
    "k_proj": "qkv_proj",
    "v_proj": "qkv_proj",
    "gate_proj": "gate_up_proj",
    "up_proj": "gate_up_proj",
}
_EXPERT = re.compile(r"^(?P<experts>.+\.experts)\.(?P<number>\d+)\.(?P<projection>gate|up|down)_proj$")
# DOTALL: otherwise a line break in a stranger's name ends no match, and each of its layers is tried to the end
_LAYER = re.compile(r"(?P<stack>.+?\.(?:layers|blocks))\.(?P<number>\d{1,6})(?:\.(?P<rest>.+))?", re.DOTALL)
_FUSED_FILE = re.compile(r"\.experts\.(gate_up_proj|down_proj)(\.weight)?$")


def fused_group(module: str) -> str:
    """The group whose members share a global scale: `parent.qkv_proj`, `parent.gate_up_proj`, or the module itself."""
    parent, _, projection = module.rpartition(".")
    return f"{parent}.{_FUSED.get(projection, projection)}"


def input_site(module: str) -> str:
    """The record's key for the amax of this module's input.

    All experts of a layer share two: their common input (`....experts.gate_up_proj`) and the input of the second
    projection (`....experts.down_proj`), as ModelOpt's fused-expert quantizers do.
    """
    group = fused_group(module)
    match = _EXPERT.match(module)
    return group if match is None else f"{match['experts']}.{group.rpartition('.')[2]}"


def experts_module(module: str) -> str:
    """`....mlp.experts` of an expert's projection, "" of anything else."""
    match = _EXPERT.match(module)
    return "" if match is None else match["experts"]


class InLayer(NamedTuple):
    """A name taken apart: `thinker.model.layers` / 3 / `self_attn.q_proj`; `rest` is "" where the layer is meant."""

    stack: str
    number: int
    rest: str

    @property
    def layer(self) -> str:
        return f"{self.stack}.{self.number}"


def in_layer(name: str) -> InLayer | None:
    """Where in which layer a module or tensor is; None of what is outside all layers."""
    match = _LAYER.fullmatch(name)
    return None if match is None else InLayer(match["stack"], int(match["number"]), match["rest"] or "")


def expert_number(module: str) -> int | None:
    """Which expert a projection belongs to; None of anything else."""
    match = _EXPERT.match(module)
    return None if match is None or len(match["number"]) > 6 else int(match["number"])


class SortedNames:
    """Many dotted names, asked for those within a module without looking at all of them each time."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = sorted(names)

    def within(self, module: str) -> Sequence[str]:
        """The names that go on after `module.`."""
        begin, end = f"{module}.", f"{module}/"  # in the order of characters a slash comes next after a dot
        return self._names[bisect_left(self._names, begin) : bisect_left(self._names, end)]


def is_fused_expert_file(tensor: str) -> bool:
    """True for 3-D `experts.gate_up_proj` / `experts.down_proj`: transformers 5's memory layout, not a file layout."""
    return _FUSED_FILE.search(tensor) is not None
