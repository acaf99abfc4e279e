"""config.json describes a Qwen3-Omni model: every field that shapes depend on is there and is a number.

Everything else is measured against the tensors this config implies. Where it implies none, the judge can still look at
scales, but it cannot say what is missing. Numbers that no model has are found without a source, too: NaN, which is no
JSON and which vLLM loads, a norm's epsilon of 1, more experts for a token than there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_q3omni.omni.config import MODEL_TYPE, TEXT_TYPE, THINKER_TYPE
from pytest_q3omni.verify.checks._protocol import CONFIG_JSON, Check, Fault
from pytest_q3omni.verify.subject import Subject

_FIX = "take config.json from the original model"
_EPSILONS = ("rms_norm_eps", "layer_norm_eps", "norm_eps")
_LARGEST_EPSILON = 0.01  # released models have 1e-6 and 1e-5
_ARCHITECTURES = {
    MODEL_TYPE: "Qwen3OmniMoeForConditionalGeneration",
    THINKER_TYPE: "Qwen3OmniMoeThinkerForConditionalGeneration",
    TEXT_TYPE: "Qwen3MoeForCausalLM",
}


def _find(subject: Subject) -> Iterator[Fault]:
    for where, found, expected in _impossible(subject.checkpoint.config, CONFIG_JSON):
        if subject.sound(where):
            yield Fault(where, f"{found!r:.60}", expected, _FIX)
    yield from _architecture(subject)
    fault = subject.config_fault
    if fault is None or subject.unknown_model:
        return
    expected = fault.expected or "a Qwen3-Omni config"
    yield Fault(fault.where or CONFIG_JSON, fault.found, expected, fault.fix or _FIX)
    if subject.source is not None:
        subject.expect(subject.source.config)


def _impossible(section: Mapping[str, Any], place: str) -> Iterator[tuple[str, Any, str]]:
    """(place, value, what it should be) of every number in a config that no model has."""
    experts = section.get("num_experts", section.get("num_local_experts"))
    for key, value in section.items():
        where = f"{place}.{key}"
        if isinstance(value, Mapping):
            yield from _impossible(value, where)
        elif isinstance(value, float) and not math.isfinite(value):
            yield where, value, "a finite number"
        elif key in _EPSILONS and isinstance(value, int | float) and not 0 < value <= _LARGEST_EPSILON:
            yield where, value, f"above 0, at most {_LARGEST_EPSILON}"
        elif key == "num_experts_per_tok" and type(value) is int and type(experts) is int and not 0 < value <= experts:
            yield where, value, f"1 to {experts}, the number of experts"
        elif key == "rope_theta" and isinstance(value, int | float) and value <= 0:
            yield where, value, "a number above 0"


def _architecture(subject: Subject) -> Iterator[Fault]:
    """A fault where the architecture, by which engines choose their code, is that of another known model type."""
    config = subject.checkpoint.config
    kind, named = config.get("model_type"), config.get("architectures")
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    own = _ARCHITECTURES.get(kind) if isinstance(kind, str) else None
    where = f"{CONFIG_JSON}.architectures"
    if own is not None and subject.sound(where) and own not in names and set(names) & set(_ARCHITECTURES.values()):
        yield Fault(where, f"{names!r:.80}", f"['{own}'], as model_type says", _FIX)


CHECK = Check("model-config", "consistent", __doc__, _find, after=("config-fields",))
