"""The defaults that are written down are those of the installed transformers."""

import pytest

transformers = pytest.importorskip("transformers")

from pytest_q3omni.omni.config import MODEL_TYPE, TEXT_TYPE, THINKER_TYPE, normalise  # noqa: E402
from pytest_q3omni.verify.class_defaults import CONFIG, PROCESSOR  # noqa: E402

pytestmark = pytest.mark.tiny

_OF_ENGINES = ("rope_parameters.mrope_section", "rope_parameters.mrope_interleaved")


def value_of(config: dict, field: str) -> object:
    value: object = config
    for part in field.split("."):
        value = value[part]  # type: ignore[index]
    return value


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (MODEL_TYPE, "Qwen3OmniMoeConfig"),
        (THINKER_TYPE, "Qwen3OmniMoeThinkerConfig"),
        (TEXT_TYPE, "Qwen3MoeConfig"),
    ],
)
def test_configs(kind: str, name: str) -> None:
    config = normalise(getattr(transformers, name)().to_dict())
    fields = [field for field in CONFIG[kind] if not field.endswith(_OF_ENGINES)]
    assert {field: value_of(config, field) for field in fields} == {field: CONFIG[kind][field] for field in fields}


def test_feature_extractor() -> None:
    name, defaults = PROCESSOR["feature_extractor"]
    made = getattr(transformers, name)()
    assert {key: getattr(made, key) for key in defaults} == defaults


@pytest.mark.parametrize(
    ("section", "module"),
    [
        ("image_processor", "qwen2_vl.image_processing_qwen2_vl"),
        ("video_processor", "qwen2_vl.video_processing_qwen2_vl"),
    ],
)
def test_picture_processors(section: str, module: str) -> None:
    name, defaults = PROCESSOR[section]
    module = pytest.importorskip(f"transformers.models.{module}")
    made = getattr(module, name)
    assert made.size["shortest_edge"] == defaults.get("min_pixels", made.size["shortest_edge"])
    assert made.size["longest_edge"] == defaults.get("max_pixels", made.size["longest_edge"])
    for key in defaults.keys() - {"min_pixels", "max_pixels"}:
        assert getattr(made, key) == defaults[key], key
