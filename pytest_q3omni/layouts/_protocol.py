"""What a layout file defines: one `LAYOUT`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pytest_q3omni.records import Numerics, Plan, TensorInfo


@dataclass(frozen=True)
class Declared:
    """What a checkpoint's `quantization_config` claims.

    modules: module (or parent, such as `....mlp.experts`) -> numerics. everything: numerics of all Linears that
    `ignore` does not name, for configs that list what is *not* quantized. faults: (where, found, expected, fix).
    """

    modules: Mapping[str, Numerics] = field(default_factory=dict)
    everything: Numerics | None = None
    ignore: tuple[str, ...] = ()
    group_size: int = 16
    faults: tuple[tuple[str, str, str, str], ...] = ()


class Layout(Protocol):
    """An export layout: how packed tensors are named, and how the config declares them."""

    name: str

    def targets(self, source: TensorInfo, numerics: Numerics) -> tuple[TensorInfo, ...]:
        """Target tensors of one packed (out, in) weight."""

    def quantization_config(self, plan: Plan) -> dict[str, Any]:
        """The block for `config.json`."""

    def reads(self, block: Mapping[str, Any]) -> bool:
        """True where `block` is this layout's."""

    def declared(self, block: Mapping[str, Any]) -> Declared:
        """What `block` claims; never raises on nonsense, it lists faults."""
