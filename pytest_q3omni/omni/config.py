"""One spelling for the configs of all transformers releases.

transformers 4.57 (the hub's files) and 5.x spell the same model differently: `num_experts` / `num_local_experts`, flat
`rope_theta` + `rope_scaling` / nested `rope_parameters`, `torch_dtype` / `dtype`. `normalise` gives the 5.x spelling,
so that shapes are computed, and configs compared, in one language.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_q3omni.errors import Inconsistent, Unreadable
from pytest_q3omni.omni.untrusted_files import check_inside, read_at_most

MODEL_TYPE, THINKER_TYPE, TEXT_TYPE = "qwen3_omni_moe", "qwen3_omni_moe_thinker", "qwen3_moe"
DECODERS = (THINKER_TYPE, TEXT_TYPE)
"""Model types beside Qwen3-Omni whose tensors are known: its thinker exported alone, and the text model."""
MAX_CONFIG_BYTES = 64_000_000  # a config may name every quantized layer of the full model (2 MB); this is far above
_MAX_DEPTH = 100
_MOST_VALUES = 4_000_000  # a tokenizer of 150,000 tokens has 600,000; an empty object takes 70 bytes of memory
_LONGEST_PLACE = 2_000  # characters of all names on the way to a value; messages name the place
_RENAMED = {"torch_dtype": "dtype", "num_local_experts": "num_experts"}
# Fields with a default in every transformers release and absent from some: absent means the default.
_DEFAULTS = {"attention_bias": False, "tie_word_embeddings": False, "mlp_only_layers": [], "decoder_sparse_step": 1}


def read_json(file: Path, *, limit: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """Read a JSON object from a file that may come from anyone.

    Raises:
        Unreadable: missing, larger than `limit` bytes, not UTF-8 JSON, nested too deep, names or values without end, or
            not an object.
        Inconsistent: a link that leaves the file's directory.
    """
    check_inside(file)
    try:
        raw = read_at_most(file, limit)
        if raw is None or sum(map(raw.count, (b",", b"[", b"{"))) > _MOST_VALUES:
            found = f"more than {limit:,} bytes" if raw is None else f"more than {_MOST_VALUES:,} values"
            raise Unreadable(found, where=str(file), expected="a file of sane size", fix="check the file")
        value = json.loads(raw.decode("utf-8"))  # no byte order mark: transformers refuses it, too
    except OSError as error:
        fix = "check the path and its permissions"
        raise Unreadable(error.strerror or str(error), where=str(file), expected="a readable file", fix=fix) from error
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not valid JSON ({error})", where=str(file), fix="copy or download it again") from error
    if not isinstance(value, dict) or not _sane(value, _MAX_DEPTH, _LONGEST_PLACE):
        found = "not a JSON object of sane depth and names"
        raise Unreadable(found, where=str(file), fix="copy or download it again")
    return value


def _sane(value: Any, depth: int, length: int) -> bool:
    """False where a value lies deeper than `depth`, or under names of more than `length` characters together."""
    if isinstance(value, dict):
        length -= max(map(len, value), default=0)
        value = value.values()
    if not depth or length < 0:
        return False
    return all(_sane(child, depth - 1, length) for child in value if isinstance(child, dict | list))


def normalise(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config in transformers 5's spelling; unknown fields pass through."""
    result: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and key not in ("rope_scaling", "rope_parameters", "quantization_config"):
            value = normalise(value)
        result[_RENAMED.get(key, key)] = value
    flat, nested = (result.get(key) or {} for key in ("rope_scaling", "rope_parameters"))
    if ("rope_theta" in result or flat) and isinstance(flat, Mapping) and isinstance(nested, Mapping):
        scaling = dict(flat)
        result.pop("rope_scaling", None)
        kind = scaling.pop("rope_type", scaling.pop("type", "default"))
        scaling.pop("type", None)
        theta = result.pop("rope_theta", None)
        rope = {"rope_type": kind, **scaling, **({} if theta is None else {"rope_theta": theta})}
        result["rope_parameters"] = {**rope, **nested}
    return result


class Section:
    """A part of a config with its dotted place, so that a missing field is reported by name."""

    def __init__(self, values: Mapping[str, Any], place: str) -> None:
        self.values, self.place = values, place

    def __contains__(self, key: str) -> bool:
        return isinstance(self.values.get(key), Mapping)

    def section(self, key: str) -> Section:
        """The sub-config `key`.

        Raises:
            Inconsistent: it is missing or not an object.
        """
        value = self.values.get(key)
        if not isinstance(value, Mapping):
            raise self._wrong(key, "an object")
        return Section(value, f"{self.place}.{key}")

    def number(self, key: str) -> int:
        """A positive whole number; absent fields with a known default are that default.

        Raises:
            Inconsistent: missing, not a number, or not in 1 .. 2^31.
        """
        value = self.values.get(key, _DEFAULTS.get(key))
        if type(value) is not int or not 0 < value < 1 << 31:
            raise self._wrong(key, "a positive whole number")
        return value

    def numbers(self, key: str) -> list[int]:
        """A list of whole numbers >= 0; absent fields with a known default are that default."""
        value = self.values.get(key, _DEFAULTS.get(key))
        if not isinstance(value, list) or not all(type(item) is int and item >= 0 for item in value):
            raise self._wrong(key, "a list of whole numbers")
        return value

    def flag(self, key: str) -> bool:
        """True or false; absent fields are their default, else false."""
        return bool(self.values.get(key, _DEFAULTS.get(key, False)))

    def _wrong(self, key: str, expected: str) -> Inconsistent:
        found = f"{self.values[key]!r:.80}" if key in self.values else "no such field"
        fix = "take config.json from the original model"
        return Inconsistent(found, where=f"{self.place}.{key}", expected=expected, fix=fix)


def omni_section(config: Mapping[str, Any], place: str) -> Section:
    """The normalised config of a Qwen3-Omni model.

    Raises:
        Inconsistent: another model type, or no thinker.
    """
    if config.get("model_type") != MODEL_TYPE:
        raise Inconsistent(
            f"model_type is {config.get('model_type')!r:.60}",
            where=place,
            expected=f"'{MODEL_TYPE}'",
            fix="this tool plans and packs Qwen3-Omni (Instruct, Thinking, Captioner)",
        )
    return model_section(config, place)


def model_section(config: Mapping[str, Any], place: str) -> Section:
    """The normalised config of any model whose tensors are known.

    Raises:
        Inconsistent: another model type, or a Qwen3-Omni without a thinker.
    """
    kind = config.get("model_type")
    if kind != MODEL_TYPE and kind not in DECODERS:
        known = ", ".join(map(repr, (MODEL_TYPE, *DECODERS)))
        found, fix = f"model_type is {kind!r:.60}", "take config.json from the original model"
        raise Inconsistent(found, where=place, expected=f"one of {known}", fix=fix)
    section = Section(normalise(config), place)
    if kind == MODEL_TYPE:
        section.section("thinker_config")
    return section
