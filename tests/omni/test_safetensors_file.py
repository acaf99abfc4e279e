"""The container reader and writer against the safetensors library, and against files that lie."""

import gc
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_q3omni.errors import CheckpointError, Inconsistent, Unreadable
from pytest_q3omni.omni.checkpoint import numpy_dtype
from pytest_q3omni.omni.safetensors_file import layout, read_header
from pytest_q3omni.records import TensorInfo

pytestmark = pytest.mark.tiny

DTYPES = ("F32", "BF16", "F16", "F8_E4M3", "U8", "I64", "F64", "BOOL", "I32")

tensors = st.lists(
    st.builds(
        TensorInfo,
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda name: name != "__metadata__"),
        st.sampled_from(DTYPES),
        st.lists(st.integers(0, 5), max_size=3).map(tuple),
    ),
    max_size=8,
    unique_by=lambda tensor: tensor.name,
)


def written(chosen: list[TensorInfo]) -> bytes:
    made = layout(chosen)
    return made.header + bytes(made.data_bytes)


@given(tensors)
def test_layout_is_the_librarys_byte_for_byte(chosen: list[TensorInfo]) -> None:
    save = pytest.importorskip("safetensors.numpy").save
    arrays = {tensor.name: np.zeros(tensor.shape, numpy_dtype(tensor.dtype)) for tensor in chosen}
    assert written(chosen) == save(arrays, {"format": "pt"})


@given(tensors)
def test_what_was_laid_out_is_read_back(tmp_path_factory: pytest.TempPathFactory, chosen: list[TensorInfo]) -> None:
    file = tmp_path_factory.mktemp("round") / "model.safetensors"
    file.write_bytes(written(chosen))
    header = read_header(file)
    assert {entry.info for entry in header.values()} == set(chosen)
    offsets = layout(chosen).offsets
    assert {name: entry.begin for name, entry in header.items()} == offsets


def header_file(path: Path, header: object, data: int = 64) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(data))
    return path


def claim(dtype: object = "U8", shape: object = (64,), offsets: object = (0, 64)) -> dict:
    return {"weight": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


LIES = {
    "not JSON": (b"{nonsense", "not valid JSON"),
    "not an object": ([1, 2], "not a JSON object"),
    "nested without end": (b"[" * 200_000, "not valid JSON"),
    "a name twice": (b'{"a":{"dtype":"U8","shape":[64],"data_offsets":[0,64]},"a":{}}', "'a' is listed twice"),
    "no entry": ({"weight": 3}, "'weight' has a malformed entry"),
    "no offsets": ({"weight": {"dtype": "U8", "shape": [64]}}, "'weight' has a malformed entry"),
    "three offsets": (claim(offsets=(0, 32, 64)), "'weight' has a malformed entry"),
    "unknown dtype": (claim(dtype="F4"), "dtype 'F4'"),
    "dtype a list": (claim(dtype=["U8"]), "dtype"),
    "negative shape": (claim(shape=(-8, -8)), "shape"),
    "fractional shape": (claim(shape=(64.0,)), "shape"),
    "true as length": (claim(shape=(True, 64)), "shape"),
    "size does not fit": (claim(shape=(65,)), "64 bytes for U8"),
    "huge shape": (claim(shape=(1 << 40, 1 << 40)), "bytes for U8"),
    "starts late": (claim(shape=(32,), offsets=(32, 64)), "leaves a gap after the header"),
    "ends early": (claim(shape=(32,), offsets=(0, 32)), "end at byte"),
    "reaches past the file": (claim(shape=(128,), offsets=(0, 128)), "end at byte"),
    "half a character": (b'{"\\ud800":{"dtype":"U8","shape":[64],"data_offsets":[0,64]}}', "malformed entry"),
    "metadata of numbers": ({"__metadata__": {"format": 5}, **claim()}, "__metadata__ is no map of texts"),
    "metadata no map": ({"__metadata__": [], **claim()}, "__metadata__ is no map of texts"),
    "overlap": (
        {"a": claim()["weight"], "b": {"dtype": "U8", "shape": [32], "data_offsets": [32, 64]}},
        "'b' overlaps 'a'",
    ),
}


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_a_lying_header_is_refused(tmp_path: Path, lie: str) -> None:
    header, text = LIES[lie]
    file = header_file(tmp_path / "lie.safetensors", header)
    with pytest.raises(Unreadable, match=text.replace("[", r"\[")) as caught:
        read_header(file)
    assert caught.value.where == str(file)


def test_a_colon_in_a_name_is_no_key_and_a_key_twice_in_an_entry_is(tmp_path: Path) -> None:
    names = {"a:b": claim()["weight"], 'c":"d': claim(shape=(0,), offsets=(64, 64))["weight"]}
    assert set(read_header(header_file(tmp_path / "colons.safetensors", names))) == set(names)
    twice = b'{"a":{"dtype":"U8","shape":[64],"shape":[64],"data_offsets":[0,64]}}'
    with pytest.raises(Unreadable, match="'shape' is listed twice"):
        read_header(header_file(tmp_path / "twice.safetensors", twice))


def test_tensors_may_be_listed_in_any_order(tmp_path: Path) -> None:
    halves = {"b": claim(shape=(32,), offsets=(32, 64))["weight"], "a": claim(shape=(32,), offsets=(0, 32))["weight"]}
    entries = read_header(header_file(tmp_path / "order.safetensors", halves))
    assert entries["b"].begin == entries["a"].end


@pytest.mark.parametrize(
    "content", [b"", b"1234567", (1 << 60).to_bytes(8, "little"), (9).to_bytes(8, "little") + b"{}"]
)
def test_a_cut_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "cut.safetensors"
    file.write_bytes(content)
    with pytest.raises(Unreadable):
        read_header(file)


@given(st.data())
def test_a_damaged_header_never_ends_in_another_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(written([TensorInfo("a.weight", "BF16", (2, 3)), TensorInfo("b", "F32", ())]))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.mktemp("fuzz") / "model.safetensors"
    file.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        header = read_header(file)
    except CheckpointError:
        return
    assert sum(entry.end - entry.begin for entry in header.values()) <= len(whole)


def test_reading_leaves_the_collector_as_it_was(tmp_path: Path) -> None:
    sound, broken = header_file(tmp_path / "a.safetensors", claim()), header_file(tmp_path / "b.safetensors", b"{")
    assert gc.isenabled()
    read_header(sound)
    with pytest.raises(Unreadable):
        read_header(broken)
    assert gc.isenabled()
    gc.disable()
    try:
        read_header(sound)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"nowhere\.safetensors: No such file"):
        read_header(tmp_path / "nowhere.safetensors")


def test_planning_a_name_twice_is_refused() -> None:
    with pytest.raises(Inconsistent, match="planned twice"):
        layout([TensorInfo("a", "U8", (1,)), TensorInfo("a", "U8", (2,))])
