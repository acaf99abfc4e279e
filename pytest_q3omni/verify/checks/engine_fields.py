"""config.json names the fields that vLLM reads and transformers' config classes have no default for.

transformers loads a config without them; vLLM 0.26 with transformers 5.17 then stops at engine start with an
AttributeError (run on an H100 without `text_config.tie_word_embeddings`). A warning, since other releases do start; an
error where the source has the field: somebody took it out. vLLM finds its model by `architectures` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pytest_q3omni.omni.config import MODEL_TYPE, Section
from pytest_q3omni.omni.stages.talker import has_speech
from pytest_q3omni.verify.checks._protocol import CONFIG_JSON, Check, Fault
from pytest_q3omni.verify.subject import Subject

_FIELDS: dict[tuple[str, ...], str] = {
    ("thinker_config", "vision_config", "image_size"): "768",
    ("thinker_config", "vision_config", "apply_vit_abs_pos_embed"): "true",
    ("thinker_config", "text_config", "tie_word_embeddings"): "false",
    ("talker_config", "spatial_merge_size"): "2",
}
"""Place -> its value in Qwen3-Omni-30B-A3B."""


_NAMED, _OMNI = "architectures", "Qwen3OmniMoeForConditionalGeneration"


def _find(subject: Subject) -> Iterator[Fault]:
    config = subject.checkpoint.config
    speech = has_speech(Section(config, CONFIG_JSON))
    for place, value in _FIELDS.items():
        *parents, field = place
        section = _section(config, parents) if speech or place[0] != "talker_config" else None
        where = ".".join((CONFIG_JSON, *place))
        if section is not None and section.get(field) is None and subject.sound(where):
            original = None if subject.source is None else _section(subject.source.config, parents)
            taken_out = original is not None and original.get(field) is not None and _one_release(subject)
            yield Fault(
                where,
                "no such field, and vLLM may stop without it: AttributeError at engine start",
                f"a value; Qwen3-Omni-30B-A3B has {value}",
                "add the field, with the original model's value",
                "error" if taken_out else "warning",
            )
    if not config.get(_NAMED) and config.get("model_type") == MODEL_TYPE and subject.sound(f"{CONFIG_JSON}.{_NAMED}"):
        found, expected = "no architecture is named: vLLM does not know which model to build", f"['{_OMNI}']"
        fix = "take `architectures` from the original model's config.json"
        yield Fault(f"{CONFIG_JSON}.{_NAMED}", found, expected, fix)


def _one_release(subject: Subject) -> bool:
    """True where source and checkpoint were written by the same release, which leaves out the same defaults."""
    configs = [subject.checkpoint.config, subject.source.config if subject.source else {}]
    return len({(config.get("transformers_version"), "torch_dtype" in config) for config in configs}) == 1


def _section(config: Mapping[str, Any], parents: list[str]) -> Mapping[str, Any] | None:
    """A sub-config; None where there is none, which `model-config` reports."""
    for name in parents:
        inner = config.get(name)
        if not isinstance(inner, Mapping):
            return None
        config = inner
    return config


CHECK = Check("engine-fields", "consistent", __doc__, _find, after=("model-config",))
