"""A checkpoint is untrusted: whatever its JSON files hold, judging ends in findings or in a typed error.

Each example replaces one place of one file by a value of the wrong kind.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sound_checkpoints import SoundCheckpoint, judged

from pytest_q3omni.errors import Q3OmniError

pytestmark = pytest.mark.tiny

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
FILES = (CONFIG, "tokenizer.json", "tokenizer_config.json", "vocab.json", "chat_template.json", INDEX)
FILES += ("preprocessor_config.json", "generation_config.json", "hf_quant_config.json")

HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 7, 10**6, 2**31 - 1, 2**31, 2**63, 10**400, -(10**400)]),
    st.floats(),
    st.sampled_from(
        ["", ".", "..", "/", "../x", "\x00", "\ud800", "*" * 50, "[", "(?", "thinker", "NVFP4", "modelopt", "9" * 5000]
    ),
    st.sampled_from([[], {}, [[]], [None], {"": None}, [1, "x", {}], {"quant_algo": []}, [{"content": 1, "id": "x"}]]),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3),
        max_leaves=8,
    ),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a JSON value; of long containers the first entries."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for number, (key, child) in enumerate(items):
        if number < 40:
            yield from places(child, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    result = copy.copy(value)
    result[path[0]] = replaced(value[path[0]], path[1:], new)
    return result


@pytest.fixture(scope="module")
def directory(sound: SoundCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sharded checkpoint with a second quantization config, to be overwritten file by file."""
    place = Path(shutil.copytree(sound("sharded"), tmp_path_factory.mktemp("hostile") / "checkpoint"))
    block = json.loads((place / CONFIG).read_text())["quantization_config"]
    inner = {"quant_algo": "MIXED_PRECISION", "quantized_layers": block["quantized_layers"], "exclude_modules": []}
    (place / "hf_quant_config.json").write_text(json.dumps({"quantization": inner}))
    return place


def judges(directory: Path, name: str, content: str) -> None:
    """Judging with this content in file `name` raises nothing but our own errors."""
    file = directory / name
    before = file.read_bytes()
    file.write_text(content, encoding="utf-8", errors="surrogatepass")
    try:
        judgement = judged(directory, ())
        json.dumps([finding.where + finding.found + finding.expected + finding.fix for finding in judgement.findings])
    except Q3OmniError:
        pass
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_value_of_the_wrong_kind(name: str, directory: Path, data: st.DataObject) -> None:
    content = json.loads((directory / name).read_text())
    path = data.draw(st.sampled_from(list(places(content))))
    judges(directory, name, json.dumps(replaced(content, path, data.draw(HOSTILE))))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_field_removed(directory: Path, data: st.DataObject) -> None:
    content = json.loads((directory / CONFIG).read_text())
    path = data.draw(st.sampled_from([place for place in places(content) if place and isinstance(place[-1], str)]))
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    parent.pop(path[-1])
    judges(directory, CONFIG, json.dumps(content))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "content", ["", "[]", "null", "{", "[" * 100_000, '{"a":' * 5000, "\ud800", '{"a": 1e999}', "{}"]
)
def test_content_that_is_no_such_file(name: str, content: str, directory: Path) -> None:
    judges(directory, name, content)


@pytest.mark.parametrize(
    "field", ["rope_scaling", "rope_parameters", "mlp_only_layers", "decoder_sparse_step", "head_dim"]
)
@pytest.mark.parametrize("value", [[1], "abc", {}, 0, None, {"type": []}, -1, 0.5])
def test_fields_that_are_converted(field: str, value: Any, directory: Path) -> None:
    content = json.loads((directory / CONFIG).read_text())
    content["thinker_config"]["text_config"] |= {field: value, "rope_theta": 1e6}
    judges(directory, CONFIG, json.dumps(content))


@pytest.mark.parametrize("file", ["\x00", "\ud800", "a" * 5000, "..", ".", "", "/etc/passwd", "../../x.safetensors"])
def test_shards_that_no_directory_has(file: str, directory: Path) -> None:
    content = json.loads((directory / INDEX).read_text())
    content["weight_map"]["thinker.lm_head.weight"] = file
    judges(directory, INDEX, json.dumps(content))
