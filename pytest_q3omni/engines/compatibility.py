"""Which checkpoints trip which engine: one table, asked by `verify` of files and by `plan` of what it will write.

A row is a trap: an engine and its versions, what about a checkpoint trips it, what happens then, what to do, and how we
know. "run" was seen, "read" is from the engine's source, "reported" from its users. Versions beyond those of a row are
not known to be safe, only unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from pytest_q3omni.layouts import Declared, Layout, layout, layout_of
from pytest_q3omni.records import Plan, Scheme, TensorInfo

CONFIG_BLOCK = "config.json.quantization_config"
_LM_HEAD = re.compile(r"(?:thinker\.|language_model\.)lm_head")  # Qwen3-Omni's; text models build theirs by name
_EXPERTS = re.compile(r"\.mlp\.experts\.\d+\.(?:gate|up)_proj")
_UNSERVED = ("talker.", "code_predictor.", "code2wav.")
_HAPPENS = Literal["refused", "wrong", "slow or refused on some GPUs"]


@dataclass(frozen=True)
class Layers:
    """What the table asks about: a config's `quantization_config`, and how every Linear is stored.

    stored: module -> (scheme, None where it is not quantized, and (out, in)). tensors: names of everything stored.
    """

    block: Mapping[str, Any]
    stored: Mapping[str, tuple[Scheme | None, tuple[int, int]]]
    tensors: tuple[str, ...] = ()

    @cached_property
    def layout(self) -> Layout | None:
        return layout_of(self.block)

    @cached_property
    def declared(self) -> Declared:
        """What the block claims; nothing where no layout knows it."""
        return Declared() if self.layout is None else self.layout.declared(self.block)

    @property
    def written_by(self) -> str:
        return "" if self.layout is None else self.layout.name

    @cached_property
    def quantized(self) -> tuple[tuple[str, Scheme, tuple[int, int]], ...]:
        """Module, scheme and (out, in) of every quantized Linear that vLLM loads."""
        return tuple(
            (module, scheme, shape)
            for module, (scheme, shape) in self.stored.items()
            if scheme is not None and not module.startswith(_UNSERVED)
        )


Trips = Callable[[Layers], Iterator[tuple[str, str]]]
"""Yields (where, what was found)."""


@dataclass(frozen=True)
class Trap:
    """One row.

    first, last: versions it is known in, as "0.32"; "" is open. happens: "refused" at loading, or "wrong": it loads and
    computes something else, or a kernel of some GPUs refuses it. then: the same in words. source: how we know. told_by:
    the check of `verify` that finds the same in the files, so that it is not said twice. layouts: those it
    concerns; all, where none is named.
    """

    name: str
    trips: Trips
    then: str
    fix: str
    source: str
    happens: _HAPPENS = "refused"
    told_by: str = ""
    engine: str = "vllm"
    first: str = ""
    last: str = ""
    layouts: tuple[str, ...] = field(default=())

    @property
    def versions(self) -> str:
        """For sentences: `vLLM 0.32 to 0.33`."""
        name = "vLLM" if self.engine == "vllm" else self.engine
        if self.first and self.last:
            return f"{name} {self.first}" + ("" if self.first == self.last else f" to {self.last}")
        return f"{name} since {self.first}" if self.first else f"{name} up to {self.last}" if self.last else name

    def covers(self, version: str) -> bool:
        """True where the row is known for an engine's version, such as "0.32.0"."""
        number = _number(version)
        return (not self.first or number >= _number(self.first)) and (not self.last or number <= _number(self.last))

    def found(self, layers: Layers) -> Iterator[tuple[str, str]]:
        """(where, what was found) of everything that trips it."""
        if not self.layouts or layers.written_by in self.layouts:
            yield from self.trips(layers)


def _number(version: str) -> tuple[int, int]:
    parts = [int(found) for found in re.findall(r"\d{1,6}", version)[:2]]
    return (parts[0], parts[1]) if len(parts) == 2 else (parts[0] if parts else 0, 0)


def tripped(
    layers: Layers, *, engine: str = "vllm", version: str = "", rows: Iterable[Trap] | None = None
) -> Iterator[tuple[Trap, str, str]]:
    """(trap, where, found) of every trap that a checkpoint trips; with `version`, of those known for it."""
    for trap in TRAPS if rows is None else rows:
        if trap.engine == engine and (not version or trap.covers(version)):
            for where, found in trap.found(layers):
                yield trap, where, found


def planned(plan: Plan) -> Layers:
    """What a plan is going to write."""
    block = layout(plan.layout).quantization_config(plan) if plan.packed else {}
    scheme = plan.scheme
    linears = (t for t in plan.tensors if len(t.source.shape) == 2 and t.source.name.endswith(".weight"))
    stored = {t.module: (scheme if t.action == "nvfp4" else None, _matrix(t.source)) for t in linears}
    return Layers(block, stored, tuple(target.name for t in plan.tensors for target in t.targets))


def _matrix(tensor: TensorInfo) -> tuple[int, int]:
    return tensor.shape[0], tensor.shape[1]


def _plain_with_lm_head(layers: Layers) -> Iterator[tuple[str, str]]:
    everything = layers.declared.everything
    for module, (scheme, _) in layers.stored.items():
        if _LM_HEAD.fullmatch(module) and everything is not None and scheme is None:
            yield f"{module}.weight", f"unquantized, and all but what `ignore` names is declared {everything.upper()}"


def _listed_lm_head(layers: Layers) -> Iterator[tuple[str, str]]:
    for module, scheme, _ in layers.quantized:
        if _LM_HEAD.fullmatch(module) and layers.declared.everything is None:
            yield f"{module}.weight", f"stored as {scheme.upper()}, and listed by name"


def _patterns_with_prefix(layers: Layers) -> Iterator[tuple[str, str]]:
    for entry in layers.declared.ignore:
        if re.match(r"re:\^?\(?thinker\\?\.", entry):
            yield f"{CONFIG_BLOCK}.ignore '{entry[:80]}'", "a pattern that begins with the prefix `thinker.`"


def _unquantizable(part: str) -> Trips:
    def trips(layers: Layers) -> Iterator[tuple[str, str]]:
        first = next((m for m, _, _ in layers.quantized if re.search(part, m)), None)
        if first is not None:
            count = sum(bool(re.search(part, module)) for module, _, _ in layers.quantized)
            yield f"{first}.weight", f"quantized, one of {count:,}"

    return trips


def _group_size(layers: Layers) -> Iterator[tuple[str, str]]:
    for where, found, _, _ in layers.declared.faults:
        if where.endswith("group_size"):
            yield f"{CONFIG_BLOCK}.{where}", f"blocks of {found}"


def _algorithm(layers: Layers) -> Iterator[tuple[str, str]]:
    algorithm = str(layers.block.get("quant_algo", "")).upper()
    if algorithm in ("NVFP4_AWQ", "NVFP4_SVD", "NVFP4_SVDQUANT"):
        yield f"{CONFIG_BLOCK}.quant_algo", algorithm


def _channel_scales(layers: Layers) -> Iterator[tuple[str, str]]:
    names = [name for name in layers.tensors if name.endswith(".pre_quant_scale")]
    if names:
        yield names[0], f"a channel scale of AWQ or SVDQuant, one of {len(names):,}"


def _packed_tables(layers: Layers) -> Iterator[tuple[str, str]]:
    for name in layers.tensors:
        if name.endswith("embed_tokens.weight_scale") and not name.startswith(_UNSERVED):
            yield name, "an embedding table that is packed"


def _odd_rows(layers: Layers) -> Iterator[tuple[str, str]]:
    for module, scheme, (out, inner) in layers.quantized:
        if (out % 64 or inner % 16) and scheme in ("w4a4", "w4a16") and not _EXPERTS.search(module):
            yield f"{module}.weight", f"{out} outputs and {inner} inputs"


def _odd_experts(layers: Layers) -> Iterator[tuple[str, str]]:
    for module, scheme, (_, inner) in layers.quantized:
        if inner % 64 and scheme in ("w4a4", "w4a16") and _EXPERTS.search(module):
            yield f"{module}.weight", f"experts with {inner} inputs"
            return


def _cache_without_scales(layers: Layers) -> Iterator[tuple[str, str]]:
    if layers.declared.kv_cache and not any(name.endswith((".k_scale", ".v_scale")) for name in layers.tensors):
        yield CONFIG_BLOCK, "an FP8 KV cache is declared, and no scale is stored"


_RIGHT = "declare MIXED_PRECISION with `quantized_layers`, as `q3omni quantize` does, or pack as compressed-tensors"
_UNPACK = "put the source's BF16 tensors back, or pack with a recipe that leaves them out"

TRAPS: tuple[Trap, ...] = (
    Trap(
        "lm-head-under-plain-nvfp4",
        _plain_with_lm_head,
        "lm_head is built without its name, so no ignore entry reaches it, and its BF16 weight fits no packed one",
        _RIGHT,
        "run: loaders of 0.24, 0.26, 0.28, 0.31 and 0.32; read: 0.33 (Qwen3MoeLLMForCausalLM)",
        first="0.24",
        last="0.33",
        layouts=("modelopt",),
    ),
    Trap(
        "lm-head-quantized",
        _listed_lm_head,
        "lm_head is built without its name, so the list that names it does not reach it",
        _UNPACK,
        "run: loaders of 0.24, 0.28 and 0.32",
        first="0.24",
        last="0.33",
        layouts=("modelopt",),
        told_by="stage-policy",
    ),
    Trap(
        "patterns-with-prefix",
        _patterns_with_prefix,
        "modules are renamed before patterns are asked (`visual...`, `language_model...`), so the pattern matches "
        "nothing, and a layer that it should keep is built packed",
        "write `re:.*visual.*`, or whole module names, which are renamed with the modules",
        "run: loaders of 0.24, 0.28 and 0.32 (CompressedTensorsConfig.apply_vllm_mapper)",
        first="0.24",
        last="0.33",
        layouts=("compressed-tensors",),
    ),
    Trap(
        "audio-tower",
        _unquantizable(r"(?:^|\.)audio_tower\."),
        "the audio tower is built without a quantization config",
        _UNPACK,
        "run: 0.32.0; read: Qwen3OmniMoeAudioEncoder",
        told_by="stage-policy",
    ),
    Trap(
        "group-size",
        _group_size,
        "kernels take blocks of 16",
        "pack again with blocks of 16",
        "run: 0.32.0",
        told_by="declaration",
    ),
    Trap(
        "algorithm",
        _algorithm,
        "the algorithm is unknown to vLLM",
        "fold every channel scale into its neighbours and declare NVFP4, or pack with a recipe of `q3omni plan`",
        "run: 0.32.0; read: QUANT_ALGOS",
        told_by="declaration",
    ),
    Trap(
        "channel-scales",
        _channel_scales,
        "it knows no such parameter",
        "fold the scale into the layer before it, and remove it",
        "run: 0.32.0",
        told_by="names",
    ),
    Trap(
        "packed-embeddings",
        _packed_tables,
        "embedding tables are looked up, and built unquantized",
        "put the source's table back, and name it in the ignore list",
        "run: 0.32.0, of llm-compressor's model_free_ptq",
        told_by="names",
    ),
    Trap(
        "cache-without-scales",
        _cache_without_scales,
        "keys and values are stored as FP8 with scale 1, without a word",
        "calibrate the KV cache's scales, or remove its declaration",
        "read: 0.32.0 (BaseKVCacheMethod)",
        happens="wrong",
        told_by="names",
    ),
    Trap(
        "marlin-rows",
        _odd_rows,
        "Marlin, the only kernel before Blackwell, refuses outputs that are no multiple of 64 and inputs that are none "
        "of 16; later releases pad them",
        "leave the layer unquantized, or serve with vLLM 0.24 or later",
        "reported: Qwen3-VL-8B-Thinking-NVFP4, whose vision MLP is 4304 wide; read: 0.22 does not pad, 0.24 does "
        "(marlin_padded_nk)",
        happens="slow or refused on some GPUs",
        last="0.23",
    ),
    Trap(
        "marlin-experts",
        _odd_experts,
        "Marlin, the only kernel for experts before Blackwell, refuses inputs that are no multiple of 64",
        "pack with a recipe that leaves the experts out, or serve on Blackwell or Thor",
        "read: 0.24 to 0.32 (prepare_nvfp4_moe_layer_for_marlin)",
        happens="slow or refused on some GPUs",
    ),
)
