"""Both spellings of configs, and JSON from strangers."""

import contextlib
import json
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_q3omni.errors import Inconsistent, Unreadable
from pytest_q3omni.omni.config import normalise, read_json
from pytest_q3omni.omni.stages import expected_tensors

pytestmark = pytest.mark.tiny


def spelled_as_4_57(config: dict) -> dict:
    """The spelling of transformers 4.57, which the hub's files have: flat rope, torch_dtype, num_experts."""
    result = {}
    for key, value in config.items():
        if isinstance(value, dict) and key != "rope_parameters":
            value = spelled_as_4_57(value)
        result[{"dtype": "torch_dtype", "num_local_experts": "num_experts"}.get(key, key)] = value
    if "rope_parameters" in result:
        rope = dict(result.pop("rope_parameters"))
        result["rope_theta"] = rope.pop("rope_theta")
        kind = rope.pop("rope_type")
        result["rope_scaling"] = {"type": kind, "rope_type": kind, **rope} if rope or kind != "default" else None
    return result


def full_size() -> dict:
    return json.loads((files("pytest_q3omni.omni") / "qwen3_omni_30b_config.json").read_text())


def test_both_spellings_give_the_same_config_and_shapes() -> None:
    new, old = full_size(), spelled_as_4_57(full_size())
    assert new != old
    assert normalise(new) == normalise(old)
    assert expected_tensors(new) == expected_tensors(old)


def test_normalising_twice_changes_nothing() -> None:
    once = normalise(full_size())
    assert normalise(once) == once


def test_the_hubs_spelling_loads_in_transformers() -> None:
    """The oracle for the old spelling: transformers itself reads it as the same architecture."""
    pytest.importorskip("torch", reason="needs the quantize extra: pip install 'pytest-q3omni[quantize]'")
    from transformers import Qwen3OmniMoeConfig

    old = Qwen3OmniMoeConfig(**spelled_as_4_57(full_size())).thinker_config.text_config
    new = Qwen3OmniMoeConfig(**full_size()).thinker_config.text_config
    assert old.num_experts == new.num_experts == 128
    assert old.rope_parameters["rope_theta"] == new.rope_parameters["rope_theta"]
    assert old.rope_parameters["mrope_section"] == new.rope_parameters["mrope_section"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", "\ufeff{}", '{"a":' * 5000 + "1" + "}" * 5000, '{"a":' * 200 + "1" + "}" * 200]
)
def test_json_that_is_no_sane_object_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(Unreadable, match=r"config\.json"):
        read_json(file)


def test_a_huge_config_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    with file.open("wb") as stream:
        stream.truncate(1 << 32)
    with pytest.raises(Unreadable, match="more than 64,000,000 bytes"):
        read_json(file)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(config: dict, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, value in config.items():
        found.append((*path, key))
        if isinstance(value, dict):
            found += places(value, (*path, key))
    return found


@given(st.sampled_from(places(full_size())), json_values)
def test_any_value_anywhere_gives_shapes_or_a_typed_error(place: tuple[str, ...], value: object) -> None:
    config = full_size()
    for text in (config["thinker_config"]["text_config"], config["talker_config"]["text_config"]):
        text["num_hidden_layers"] = 1
    section = config
    for key in place[:-1]:
        section = section[key]
    section[place[-1]] = value
    with contextlib.suppress(Inconsistent):  # any other error fails the test
        assert all(length > 0 for tensor in expected_tensors(config) for length in tensor.shape)
