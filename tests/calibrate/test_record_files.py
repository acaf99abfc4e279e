"""The record on disk: bytes, atomic writing, reading without torch, and every way it can be broken."""

import dataclasses
import hashlib
import json
import math
import os
import subprocess
import sys

import pytest

from pytest_q3omni.calibrate import record as module
from pytest_q3omni.calibrate.record import encode_record, load_record, save_record
from pytest_q3omni.errors import Inconsistent, InvalidRequest, Q3OmniError, Unreadable, Unwritable
from pytest_q3omni.omni.durable import check_new_directory
from pytest_q3omni.omni.safetensors_file import layout
from pytest_q3omni.records import CalibrationRecord, SampleFailure, TensorInfo

pytestmark = pytest.mark.tiny

RECORD = CalibrationRecord(
    recipe="nvfp4-default",
    source_fingerprint="ab" * 32,
    input_amax={"thinker.b.qkv_proj": 3.59375, "thinker.a.o_proj": 2.0**-130},
    expert_tokens={
        kind: {"thinker.layers.0.mlp.experts": (1, 2, 0, 4), "thinker.layers.1.mlp.experts": (0, 0, 2**40, 7)}
        for kind in ("text", "image", "audio")
    },
    samples_total=4,
    samples={"text": 3, "image": 1},
    failures=(SampleFailure("a.jsonl:3", "Unreadable: “broken”"),),
    versions={"torch": "2.14.1"},
)


@pytest.fixture
def saved(tmp_path):
    save_record(RECORD, tmp_path / "record")
    return tmp_path / "record"


def test_round_trip(saved):
    assert load_record(saved) == RECORD
    assert sorted(file.name for file in saved.iterdir()) == ["record.json", "record.safetensors"]


def test_the_same_record_gives_the_same_bytes(saved):
    turned = dataclasses.replace(
        RECORD,
        input_amax=dict(reversed(RECORD.input_amax.items())),
        expert_tokens={kind: dict(reversed(tokens.items())) for kind, tokens in reversed(RECORD.expert_tokens.items())},
    )
    assert encode_record(turned) == encode_record(RECORD)
    assert encode_record(RECORD) == {file.name: file.read_bytes() for file in saved.iterdir()}


def test_a_record_without_sites_or_experts(tmp_path):
    empty = dataclasses.replace(RECORD, input_amax={}, expert_tokens={})
    save_record(empty, tmp_path / "record")
    assert load_record(tmp_path / "record") == empty
    bare = dataclasses.replace(RECORD, expert_tokens={"text": {}, "image": {}})
    save_record(bare, tmp_path / "bare")
    assert load_record(tmp_path / "bare") == bare


def test_the_safetensors_library_reads_it(saved):
    numpy = pytest.importorskip("safetensors.numpy", reason="needs safetensors")
    tensors = numpy.load_file(saved / "record.safetensors")
    assert {name: (array.dtype.name, array.shape) for name, array in tensors.items()} == {
        "input_amax": ("float32", (2,)),
        "expert_tokens.text": ("int64", (2, 4)),
        "expert_tokens.image": ("int64", (2, 4)),
        "expert_tokens.audio": ("int64", (2, 4)),
    }
    assert tensors["input_amax"].tolist() == [2.0**-130, 3.59375]


def test_it_is_read_without_torch_and_without_safetensors(saved):
    code = (
        "import sys; from pathlib import Path\n"
        "for name in ('torch', 'safetensors', 'transformers', 'modelopt'): sys.modules[name] = None\n"
        "from pytest_q3omni.calibrate.record import load_record\n"
        f"print(load_record(Path({str(saved)!r})).samples_total)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "4"


def test_json_is_sorted_and_readable(saved):
    text = (saved / "record.json").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert "“broken”" in text
    assert json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n" == text


def test_experts_that_differ_are_refused():
    tokens = {"text": {"a": (1, 2)}, "image": {"b": (1, 2)}}
    with pytest.raises(Inconsistent, match="experts that differ"):
        encode_record(dataclasses.replace(RECORD, expert_tokens=tokens))
    with pytest.raises(Inconsistent, match="experts that differ"):
        encode_record(dataclasses.replace(RECORD, expert_tokens={"text": {"a": (1, 2), "b": (1,)}}))


def test_an_empty_directory_is_filled(tmp_path):
    (tmp_path / "record").mkdir()
    save_record(RECORD, tmp_path / "record")
    assert load_record(tmp_path / "record") == RECORD


def test_parents_are_made(tmp_path):
    save_record(RECORD, tmp_path / "a" / "b" / "record")
    assert load_record(tmp_path / "a" / "b" / "record") == RECORD


@pytest.mark.parametrize("kind", ["record", "file", "directory"])
def test_what_is_there_is_never_overwritten(tmp_path, kind):
    path = tmp_path / "record"
    if kind == "record":
        save_record(RECORD, path)
    elif kind == "file":
        path.write_text("mine")
    else:
        path.mkdir()
        (path / "mine.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    for write in (lambda: check_new_directory(path, "RECORD"), lambda: save_record(RECORD, path)):
        with pytest.raises(InvalidRequest, match=r"already holds something|is a file"):
            write()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("moment", ["write", "fsync", "rename"])
def test_a_failure_leaves_nothing(tmp_path, monkeypatch, moment):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    if moment == "rename":
        monkeypatch.setattr(module.Path, "rename", full)
    elif moment == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(module.Path, "open", full)
    with pytest.raises(Unwritable, match="No space left"):
        save_record(RECORD, tmp_path / "record")
    assert list(tmp_path.iterdir()) == []


def test_files_are_synced_before_the_name_appears(tmp_path, monkeypatch):
    events = []
    sync, rename = os.fsync, module.Path.rename
    monkeypatch.setattr(os, "fsync", lambda descriptor: (events.append("fsync"), sync(descriptor))[1])
    monkeypatch.setattr(module.Path, "rename", lambda self, to: (events.append("rename"), rename(self, to))[1])
    save_record(RECORD, tmp_path / "record")
    assert events.index("rename") >= 3
    assert events[-1] == "fsync"


def change(folder, **fields):
    described = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps({**described, **fields}))


def write_tensors(folder, tensors):
    """Other tensors, with their digest in the JSON: name -> (dtype, shape, bytes)."""
    planned = layout(TensorInfo(name, dtype, shape) for name, (dtype, shape, _) in tensors.items())
    data = planned.header + b"".join(tensors[tensor.name][2] for tensor in planned.tensors)
    (folder / "record.safetensors").write_bytes(data)
    change(folder, sha256=hashlib.sha256(data).hexdigest())


AMAX = ("F32", (2,), bytes(8))
TOKENS = ("I64", (2, 4), bytes(64))

BREAK_JSON = {
    "schema": {"schema": 2},
    "no schema": {"schema": None},
    "recipe": {"recipe": 7},
    "fingerprint": {"source_fingerprint": None},
    "sites no list": {"input_sites": "abc"},
    "sites twice": {"input_sites": ["a", "a"]},
    "sites numbers": {"input_sites": [1, 2]},
    "modules no list": {"experts_modules": {}},
    "total a text": {"samples_total": "4"},
    "total negative": {"samples_total": -1},
    "total true": {"samples_total": True},
    "samples a list": {"samples": []},
    "samples of text": {"samples": {"text": "3"}},
    "failures a table": {"failures": {}},
    "failures of text": {"failures": ["a.jsonl:3"]},
    "versions of numbers": {"versions": {"torch": 2}},
    "no digest": {"sha256": None},
}


@pytest.mark.parametrize("fault", BREAK_JSON)
def test_a_broken_field_is_named(saved, fault):
    change(saved, **BREAK_JSON[fault])
    with pytest.raises(Unreadable, match=r"record\.json: ") as caught:
        load_record(saved)
    assert next(iter(BREAK_JSON[fault])) in str(caught.value)
    assert caught.value.fix


BREAK_TENSORS = {
    "no amax": {"expert_tokens.text": TOKENS},
    "amax too short": {"input_amax": ("F32", (1,), bytes(4))},
    "amax a matrix": {"input_amax": ("F32", (2, 1), bytes(8))},
    "tokens too few": {"input_amax": AMAX, "expert_tokens.text": ("I64", (1, 4), bytes(32))},
    "tokens a vector": {"input_amax": AMAX, "expert_tokens.text": ("I64", (2,), bytes(16))},
}


@pytest.mark.parametrize("fault", BREAK_TENSORS)
def test_tensors_that_do_not_fit_the_names(saved, fault):
    write_tensors(saved, BREAK_TENSORS[fault])
    with pytest.raises(Inconsistent, match=r"record\.safetensors: (input_amax|expert_tokens\.text)"):
        load_record(saved)


def test_another_dtype_is_refused(saved):
    write_tensors(saved, {"input_amax": ("F64", (2,), bytes(16))})
    with pytest.raises(Unreadable, match="input_amax is F64"):
        load_record(saved)


def test_halves_of_two_records_are_refused(saved, tmp_path):
    other = dataclasses.replace(RECORD, input_amax={site: 9.0 for site in RECORD.input_amax})
    save_record(other, tmp_path / "other")
    (tmp_path / "other" / "record.safetensors").replace(saved / "record.safetensors")
    with pytest.raises(Inconsistent, match="sha256"):
        load_record(saved)


def test_a_changed_byte_is_noticed(saved):
    data = bytearray((saved / "record.safetensors").read_bytes())
    data[-1] ^= 1
    (saved / "record.safetensors").write_bytes(data)
    with pytest.raises(Inconsistent, match="sha256"):
        load_record(saved)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"schema": 1}'])
def test_damaged_json_is_unreadable(saved, content):
    (saved / "record.json").write_bytes(content)
    with pytest.raises(Unreadable, match=r"record\.json"):
        load_record(saved)


@pytest.mark.parametrize("name", ["record.json", "record.safetensors"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(Unreadable, match=name):
        load_record(saved)


def test_no_record_at_all(tmp_path):
    with pytest.raises(Unreadable, match=r"none.record\.json"):
        load_record(tmp_path / "none")


@pytest.mark.parametrize("cut", [0, 7, 100, -1])
def test_truncated_tensors_are_unreadable(saved, cut):
    data = (saved / "record.safetensors").read_bytes()
    (saved / "record.safetensors").write_bytes(data[:cut])
    with pytest.raises(Q3OmniError, match=r"record\.safetensors"):
        load_record(saved)


def test_values_are_the_judges_business(tmp_path):
    save_record(dataclasses.replace(RECORD, input_amax={"a": math.nan, "b": math.inf, "c": 0.0}), tmp_path / "record")
    found = load_record(tmp_path / "record").input_amax
    assert math.isnan(found["a"])
    assert (found["b"], found["c"]) == (math.inf, 0.0)


def test_an_oversized_file_is_not_loaded(saved, monkeypatch):
    monkeypatch.setattr(module, "_MAX_BYTES", 100)
    with pytest.raises(Unreadable, match="a few MB"):
        load_record(saved)
