"""What a text decoder is made of, in bytes and matrix elements, as a checkpoint's config and headers say.

Only the thinker's text decoder: its towers run once for a picture or a sound, and text decoding touches neither them
nor the talker, the code predictor or code2wav. Shapes are those that the config implies, bytes those that are stored,
so that it works for anyone's checkpoint: Qwen3-Omni, its thinker alone, or a Qwen3-MoE text model, in either layout.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any, Literal

from pytest_q3omni.errors import Incomplete, Inconsistent
from pytest_q3omni.layouts import Suffixes, layout, layout_names, layout_of, suffixes
from pytest_q3omni.omni.config import MODEL_TYPE, THINKER_TYPE, Section, model_section
from pytest_q3omni.omni.safetensors_file import nbytes
from pytest_q3omni.omni.stages import stages
from pytest_q3omni.records import TensorInfo

Arithmetic = Literal["bf16", "fp8", "w4a16", "w4a4"]
"""How a matrix is stored and multiplied."""

EXPERTS, LM_HEAD, EMBEDDINGS = "experts", "lm_head", "embeddings"
_VECTORS = "norms and biases"
PARTS = ("attention", "router", EXPERTS, "dense MLP", LM_HEAD, EMBEDDINGS, _VECTORS)
"""The parts of a text decoder, as the stages call them; a thinker has others, which text does not touch."""

_STAGES = ("thinker", "decoder")
_FLOATS = ("BF16", "F16", "F32")
_FLOAT_BYTES = 2  # engines load them in BF16, whatever the file has
_AGAIN = "take config.json and weights from the same model"


@dataclass(frozen=True, slots=True)
class Weights:
    """One part: bytes with all scales, and elements of its matrices by how they are multiplied."""

    bytes: int
    elements: Mapping[Arithmetic, int]


@dataclass(frozen=True, slots=True)
class Decoder:
    """A text decoder. parts: all but the experts and the embeddings; each step reads them whole.

    experts: all of all layers; `experts_per_token` of the `num_experts` of a layer work on each token.
    embedding_bytes: one row of the table. kv_bytes: of one number in the KV cache.
    """

    parts: Mapping[str, Weights]
    experts: Weights
    num_experts: int
    experts_per_token: int
    embedding_bytes: float
    vocabulary: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    kv_bytes: int

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of one token in all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.kv_bytes


def decoder_of(config: Mapping[str, Any], tensors: Iterable[TensorInfo], place: str = "config.json") -> Decoder:
    """The text decoder of a checkpoint: its config and all entries of its headers, or the targets of a plan.

    Raises:
        Inconsistent: a config of another model or with wrong fields; a weight of another shape than the config implies,
            or stored in numbers that are neither float, FP8 nor NVFP4: named.
        Incomplete: a weight of the decoder is missing; named.
    """
    section = model_section(config, place)
    text = _text(section)
    stored: dict[str, dict[str, TensorInfo]] = defaultdict(dict)
    for tensor in tensors:
        module, _, suffix = tensor.name.rpartition(".")
        stored[module][suffix] = tensor
    size: dict[str, int] = defaultdict(int)
    elements: dict[str, dict[Arithmetic, int]] = defaultdict(lambda: defaultdict(int))
    for part, module, shape in _modules(section):
        found = stored.get(module)
        if found is None:
            raise Incomplete(f"{module} is missing", where=place, expected="every weight that it implies", fix=_AGAIN)
        size[part] += sum(_loaded_bytes(tensor) for tensor in found.values())
        arithmetic = _arithmetic(module, found, shape)
        if len(shape) == 2:
            elements[part][arithmetic] += prod(shape)
    weights = {part: Weights(size[part], dict(elements[part])) for part in PARTS if part in size}
    weights.setdefault(LM_HEAD, weights[EMBEDDINGS])  # tied: one table, looked up at first and multiplied at last
    experts = weights.pop(EXPERTS, Weights(0, {}))
    table, vocabulary = weights.pop(EMBEDDINGS), text.number("vocab_size")
    return Decoder(
        parts=weights,
        experts=experts,
        embedding_bytes=table.bytes / vocabulary,
        vocabulary=vocabulary,
        kv_bytes=1 if _fp8_cache(config) else 2,
        **_sizes(text),
    )


def _text(section: Section) -> Section:
    kind = section.values.get("model_type")
    if kind == MODEL_TYPE:
        return section.section("thinker_config").section("text_config")
    return section.section("text_config") if kind == THINKER_TYPE else section


def _sizes(text: Section) -> dict[str, int]:
    heads, experts, chosen = (text.number(key) for key in ("num_attention_heads", "num_experts", "num_experts_per_tok"))
    if chosen > experts:
        where = f"{text.place}.num_experts_per_tok"
        raise Inconsistent(f"{chosen}", where=where, expected=f"at most num_experts, {experts}", fix=_AGAIN)
    return {
        "num_experts": experts,
        "experts_per_token": chosen,
        "layers": text.number("num_hidden_layers"),
        "heads": heads,
        "kv_heads": text.number("num_key_value_heads"),
        "head_dim": text.number("head_dim") if "head_dim" in text.values else text.number("hidden_size") // heads,
    }


def _modules(section: Section) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """(part, module, shape of its weight) of everything that text decoding touches."""
    for stage in stages():
        if stage.name in _STAGES and stage.present(section):
            for name, shape in stage.tensors(section):
                part = stage.part(name).name
                if part in PARTS and name.endswith(".weight"):
                    yield part, name.removesuffix(".weight"), shape


def _loaded_bytes(tensor: TensorInfo) -> int:
    """Bytes in memory: weights that are stored in FP32 are loaded in BF16, scales as they are."""
    if tensor.dtype == "F32" and tensor.name.endswith((".weight", ".bias")):
        return _FLOAT_BYTES * prod(tensor.shape)
    return nbytes(tensor)


@cache
def _suffixes() -> tuple[Suffixes, ...]:
    return tuple(suffixes(layout(name)) for name in layout_names())


def _arithmetic(module: str, found: Mapping[str, TensorInfo], shape: tuple[int, ...]) -> Arithmetic:
    """How a module is multiplied, by what is stored for it."""
    for names in _suffixes():
        codes = found.get(names.codes)
        if codes is not None and codes.dtype == "U8" and names.block_scale in found:
            _check_shape(codes, (*shape[:-1], shape[-1] // 2))
            return "w4a4" if names.input_scale in found else "w4a16"
    weight = found.get("weight")
    if weight is None or not (weight.dtype in _FLOATS or weight.dtype == "F8_E4M3"):
        held = ", ".join(f"{tensor.dtype} {suffix}" for suffix, tensor in sorted(found.items()))
        expected = "a float, FP8 or NVFP4 weight: the roofline knows no other numbers"
        raise Inconsistent(f"stored as {held}"[:200], where=module, expected=expected, fix="`q3omni verify` says more")
    _check_shape(weight, shape)
    return "fp8" if weight.dtype == "F8_E4M3" else "bf16"


def _check_shape(tensor: TensorInfo, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape:
        expected = f"{list(shape)}, as config.json implies"
        raise Inconsistent(f"shape {list(tensor.shape)}", where=tensor.name, expected=expected, fix=_AGAIN)


def _fp8_cache(config: Mapping[str, Any]) -> bool:
    """Whether the config declares a quantized KV cache: FP8 is the only one that both layouts have."""
    for holder in (config, config.get("text_config"), config.get("thinker_config")):
        block = holder.get("quantization_config") if isinstance(holder, Mapping) else None
        if isinstance(block, Mapping):
            found = layout_of(block)
            return found is not None and found.declared(block).kv_cache
    return False
