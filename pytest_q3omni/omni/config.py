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

MODEL_TYPE = "qwen3_omni_moe"
MAX_CONFIG_BYTES = 64_000_000  # a config may name every quantized layer of the full model (2 MB); this is far above
_MAX_DEPTH = 100
_RENAMED = {"torch_dtype": "dtype", "num_local_experts": "num_experts"}
# Fields with a default in every transformers release and absent from some: absent means the default.
_DEFAULTS = {"attention_bias": False, "tie_word_embeddings": False, "mlp_only_layers": [], "decoder_sparse_step": 1}


def read_json(file: Path, *, limit: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """Read a JSON object from a file that may come from anyone.

    Raises:
        Unreadable: missing, larger than `limit` bytes, not UTF-8 JSON, nested too deep, or not an object.
    """
    try:
        size = file.stat().st_size
        if size > limit:
            raise Unreadable(f"{size} bytes", where=str(file), expected=f"at most {limit}", fix="check the file")
        value = json.loads(file.read_bytes().decode("utf-8"))  # no byte order mark: transformers refuses it, too
    except OSError as error:
        fix = "check the path and its permissions"
        raise Unreadable(error.strerror or str(error), where=str(file), expected="a readable file", fix=fix) from error
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not valid JSON ({error})", where=str(file), fix="copy or download it again") from error
    if not isinstance(value, dict) or _too_deep(value, _MAX_DEPTH):
        raise Unreadable("not a JSON object of sane depth", where=str(file), fix="copy or download it again")
    return value


def _too_deep(value: Any, left: int) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return left == 0 or any(_too_deep(child, left - 1) for child in children)


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
        found = f"{self.values[key]!r}" if key in self.values else "no such field"
        fix = "take config.json from the original model"
        return Inconsistent(found, where=f"{self.place}.{key}", expected=expected, fix=fix)


def omni_section(config: Mapping[str, Any], place: str) -> Section:
    """The normalised config of a Qwen3-Omni model.

    Raises:
        Inconsistent: another model type, or no thinker.
    """
    if config.get("model_type") != MODEL_TYPE:
        raise Inconsistent(
            f"model_type is {config.get('model_type')!r}",
            where=place,
            expected=f"'{MODEL_TYPE}'",
            fix="this tool plans and packs Qwen3-Omni (Instruct, Thinking, Captioner)",
        )
    section = Section(normalise(config), place)
    section.section("thinker_config")
    return section
