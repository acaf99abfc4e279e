"""Where findings point: the layer, and the expert or projection, that a finding's place names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pytest_q3omni.omni.naming import in_layer
from pytest_q3omni.records import Finding

_DECLARED = "quantized_layers."  # what follows it in a config field is the name of a module
_EXPERT = re.compile(r"(?:^|\.)experts\.(\d{1,6})(?:\.|$)")


class Spot(NamedTuple):
    """A place in the maps. column: an expert's number, another module's name in its layer, "" for the layer."""

    stack: str
    number: int
    column: int | str


def spot(where: str) -> Spot | None:
    """The spot that a tensor, a module or a declared layer lies in; None of what is outside all layers."""
    found = in_layer(where.rpartition(_DECLARED)[2].partition(":")[0])
    if found is None:
        return None
    expert = _EXPERT.search(found.rest)
    if expert is not None:
        return Spot(found.stack, found.number, int(expert[1]))
    return Spot(found.stack, found.number, _module(found.rest))


def _module(rest: str) -> str:
    """`self_attn.q_proj` of it, and of each of its tensors."""
    module, _, last = rest.rpartition(".")
    return rest if last.endswith(("_proj", "experts", "norm")) or not module else module


class Places:
    """The spots that findings name. Each has an anchor that is a number: names come from strangers."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        errors: dict[Spot, bool] = {}
        for finding in findings:
            found = spot(finding.where)
            if found is not None:
                errors[found] = errors.get(found, False) or finding.severity == "error"
        self._spots = {each: index for index, each in enumerate(errors)}
        self._failed = {(each.stack, each.number) for each, error in errors.items() if error}
        layers = dict.fromkeys((each.stack, each.number) for each in self._spots)
        self._layers = {layer: index for index, layer in enumerate(layers)}

    def __iter__(self) -> Iterator[Spot]:
        yield from self._spots

    def layer(self, stack: str, number: int) -> str:
        """The anchor of a layer that findings name, or name something in; "" of others."""
        index = self._layers.get((stack, number))
        return "" if index is None else f"l{index}"

    def failed(self, stack: str, number: int) -> bool:
        """Whether an error, not only a warning, names a layer or something in it."""
        return (stack, number) in self._failed

    def cell(self, stack: str, number: int, column: int | str) -> str:
        """The anchor of an expert or module that findings name; "" of others."""
        index = self._spots.get(Spot(stack, number, column))
        return "" if index is None else f"p{index}"

    def links(self, where: str) -> tuple[str, ...]:
        """The anchors that may be drawn for a finding's place, the nearest first."""
        found = spot(where)
        if found is None:
            return ()
        return tuple(filter(None, (self.cell(*found), self.layer(found.stack, found.number))))
