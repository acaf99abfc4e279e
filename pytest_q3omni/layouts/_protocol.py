"""What a layout file defines: one `LAYOUT`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pytest_q3omni.records import Plan, Scheme, TensorInfo

Language = Literal["patterns", "names"]
"""How an ignore list is spelled. "patterns": ModelOpt's, shell patterns that also cover what they are a substring of.
"names": compressed-tensors', whole module names, or regular expressions after `re:` that match from the start."""

FaultTuple = tuple[str, str, str, str]


@dataclass(frozen=True)
class Declared:
    """What a checkpoint's `quantization_config` claims.

    modules: module (or parent, such as `....mlp.experts`) -> scheme. targets: (entry in the language "names", scheme),
    tried in order. everything: scheme of all Linears that `ignore` does not name, for configs that list what is *not*
    quantized. kv_cache: a quantized KV cache is declared. faults: (where, found, expected, fix).
    """

    modules: Mapping[str, Scheme] = field(default_factory=dict)
    targets: tuple[tuple[str, Scheme], ...] = ()
    everything: Scheme | None = None
    ignore: tuple[str, ...] = ()
    language: Language = "patterns"
    kv_cache: bool = False
    faults: tuple[FaultTuple, ...] = ()


class Layout(Protocol):
    """An export layout: how packed tensors are named, and how the config declares them.

    inverted: the file's global and input scales divide (2688 / amax); otherwise they multiply (amax / 2688).
    """

    name: str
    inverted: bool

    def targets(self, source: TensorInfo, scheme: Scheme) -> tuple[TensorInfo, ...]:
        """Target tensors of one quantized (out, in) weight. NVFP4: codes, block scale, global scale and, for W4A4, the
        input's; FP8: weight, its scale and, unless dynamic, the input's."""

    def quantization_config(self, plan: Plan) -> dict[str, Any]:
        """The block for `config.json`."""

    def reads(self, block: Mapping[str, Any]) -> bool:
        """True where `block` is this layout's."""

    def declared(self, block: Mapping[str, Any]) -> Declared:
        """What `block` claims; never raises on nonsense, it lists faults."""
