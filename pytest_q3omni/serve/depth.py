"""The first layers of a checkpoint's thinker: what its config says then, which tensors are left, how many bytes.

An engine loads such a cut as any other checkpoint of the model. It answers nonsense, but the same nonsense in BF16 and
in NVFP4: so a large model can be compared with its twin on a device that does not hold both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pytest_q3omni.engines.packed import bf16_bytes, packed_modules
from pytest_q3omni.errors import InvalidRequest
from pytest_q3omni.omni.checkpoint import Checkpoint
from pytest_q3omni.omni.config import omni_section
from pytest_q3omni.omni.naming import in_layer
from pytest_q3omni.omni.safetensors_file import nbytes
from pytest_q3omni.omni.stages import stage_of

STACK = "thinker.model.layers"
"""Where the thinker's decoder layers are."""
_SPEECH = ("talker", "code2wav")  # first labels of what vLLM does not load
_NVFP4 = "NVFP4"


def thinker_layers(config: Mapping[str, Any], place: str = "config.json") -> int:
    """How many decoder layers the thinker has.

    Raises:
        Inconsistent: not a Qwen3-Omni config, or no such number in it.
    """
    text = omni_section(config, place).section("thinker_config").section("text_config")
    return text.number("num_hidden_layers")


def check_depth(checkpoint: Checkpoint, layers: int | None) -> int:
    """The number of layers that `layers` stands for: all of them where it is None.

    Raises:
        InvalidRequest: fewer than one, or more than the checkpoint has.
        Inconsistent: see `thinker_layers`.
    """
    whole = thinker_layers(checkpoint.config, f"{checkpoint.path}: config.json")
    if layers is not None and not 1 <= layers <= whole:
        raise InvalidRequest(
            f"{layers} layers", where=str(checkpoint.path), expected=f"1 to {whole}, as the thinker has",
            fix="choose a number in between, or None for all",
        )  # fmt: skip
    return whole if layers is None else layers


def first_packed_layer(checkpoint: Checkpoint) -> int:
    """The number of the thinker's first decoder layer that holds packed weights: recipes often leave out some.

    Raises:
        InvalidRequest: no layer does.
    """
    places = (in_layer(module) for module in packed_modules(checkpoint))
    numbers = [place.number for place in places if place is not None and place.stack == STACK]
    if not numbers:
        raise InvalidRequest(
            "nothing is packed in the thinker's layers", where=str(checkpoint.path), expected="NVFP4 weights",
            fix="name a checkpoint that `q3omni quantize` made",
        )  # fmt: skip
    return min(numbers)


def kept_tensors(checkpoint: Checkpoint, layers: int) -> list[str]:
    """Names of the thinker's tensors within its first `layers` layers and outside of all, sorted."""
    return sorted(name for name in checkpoint.entries if not _cut_away(name, layers))


def _cut_away(name: str, layers: int) -> bool:
    """Whether a tensor or a module belongs to another stage or to a later layer."""
    place, stage = in_layer(name), stage_of(name)
    later = place is not None and place.stack == STACK and place.number >= layers
    return later or name.partition(".")[0].rstrip("*") in _SPEECH or (stage is not None and stage.name in _SPEECH)


def cut_config(config: Mapping[str, Any], layers: int, *, weight_only: bool = False) -> dict[str, Any]:
    """`config.json` of the first `layers` layers: lists by layer and by module shortened, no speech, the rest as it is.

    Deepstack names layers of the vision tower, which stays whole; what it gives to a decoder layer that is cut away,
    nobody adds. weight_only: what is declared as NVFP4 with NVFP4 inputs is declared with BF16 inputs.
    """
    thinker = dict(config["thinker_config"])
    text = dict(thinker["text_config"])
    if isinstance(text.get("layer_types"), list):
        text["layer_types"] = text["layer_types"][:layers]
    if isinstance(text.get("mlp_only_layers"), list):  # numbers of layers
        text["mlp_only_layers"] = [number for number in text["mlp_only_layers"] if number < layers]
    text["num_hidden_layers"] = layers
    cut = {**config, "thinker_config": {**thinker, "text_config": text}, "enable_audio_output": False}
    block = config.get("quantization_config")
    if isinstance(block, Mapping):
        cut["quantization_config"] = cut_declaration(block, layers, weight_only=weight_only)
    return cut


def cut_declaration(block: Mapping[str, Any], layers: int, *, weight_only: bool) -> dict[str, Any]:
    """A `quantization_config`, or what `hf_quant_config.json` holds, without the modules that are cut away."""
    cut: dict[str, Any] = _pruned(block, lambda name: _cut_away(name, layers))
    groups = cut.get("config_groups")
    if isinstance(groups, Mapping):  # a group that was for later layers alone would be for nothing now
        left = {name: group for name, group in groups.items() if not _is_empty(group)}
        cut["config_groups"] = left
    return _without_inputs(cut) if weight_only else cut


def _pruned(value: Any, gone: Callable[[str], bool]) -> Any:
    """A declaration without the names that are gone, as keys or in lists, however deep."""
    if isinstance(value, Mapping):
        return {key: _pruned(inner, gone) for key, inner in value.items() if not gone(key)}
    if isinstance(value, list):
        return [_pruned(inner, gone) for inner in value if not (isinstance(inner, str) and gone(inner))]
    return value


def _is_empty(group: Any) -> bool:
    return isinstance(group, Mapping) and group.get("targets") == []


def _without_inputs(value: Any) -> Any:
    """A declaration whose NVFP4 layers have BF16 inputs, in the words of either layout."""
    if isinstance(value, list):
        return [_without_inputs(inner) for inner in value]
    if not isinstance(value, Mapping):
        return value
    changed = {key: _without_inputs(inner) for key, inner in value.items()}
    if str(changed.get("quant_algo", "")).upper() == _NVFP4:
        changed["quant_algo"] = f"W4A16_{_NVFP4}"
    weights = changed.get("weights")
    if "input_activations" in changed and isinstance(weights, Mapping) and weights.get("num_bits") == 4:
        changed["input_activations"] = None
    return changed


def cut_bytes(checkpoint: Checkpoint, layers: int) -> tuple[int, int]:
    """Tensor bytes of the cut and of its BF16 twin."""
    names = set(kept_tensors(checkpoint, layers))
    entries = {name: entry for name, entry in checkpoint.entries.items() if name in names}
    left = Checkpoint(checkpoint.path, checkpoint.config, entries, None, ())
    return sum(nbytes(entry.info) for entry in entries.values()), bf16_bytes(left, packed_modules(left))


def layers_that_fit(checkpoint: Checkpoint, room: int, *, most: int) -> int:
    """The largest number of layers, at most `most`, whose cut and twin together have at most `room` bytes.

    Raises:
        InvalidRequest: not even one layer fits.
        Inconsistent: see `thinker_layers`.
    """
    whole = min(most, check_depth(checkpoint, None))
    for layers in range(whole, 0, -1):
        if sum(cut_bytes(checkpoint, layers)) <= room:
            return layers
    need = sum(cut_bytes(checkpoint, 1))
    raise InvalidRequest(
        f"room for {room / 2**30:.1f} GiB", where=str(checkpoint.path),
        expected=f"{need / 2**30:.1f} GiB, for one layer in NVFP4 and in BF16", fix="free memory or disk space",
    )  # fmt: skip
