"""Names and values of a stranger that once ended in a traceback, a terminal's escape codes, or megabytes of text."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _checkpoint_edit import CONFIG, bfloat16, edit_json, edit_quantization, write_file
from sound_checkpoints import SoundCheckpoint, judged

from pytest_q3omni.api import verify
from pytest_q3omni.calibrate.record import encode_record, load_record
from pytest_q3omni.errors import Inconsistent, Unreadable
from pytest_q3omni.omni.checkpoint import scan
from pytest_q3omni.omni.config import Section
from pytest_q3omni.omni.naming import SortedNames
from pytest_q3omni.omni.safetensors_file import read_header
from pytest_q3omni.omni.stages._protocol import moe_layers
from pytest_q3omni.records import Finding
from pytest_q3omni.report.terminal import render_judgement, render_record
from pytest_q3omni.verify import judge as judging
from pytest_q3omni.verify.checks import Check, Fault
from pytest_q3omni.verify.claim import _compiled
from pytest_q3omni.verify.subject import Subject

pytestmark = pytest.mark.tiny

NORM = "thinker.model.layers.0.input_layernorm.weight"


@pytest.fixture
def directory(sound: SoundCheckpoint, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound("nvfp4-default"), tmp_path / "checkpoint"))


def added(directory: Path, *names: str, array: Any = None) -> None:
    """One more shard, with these tensors."""
    content = np.zeros(1, np.float32) if array is None else array
    write_file(directory / "more.safetensors", dict.fromkeys(names, content))


@pytest.mark.parametrize(
    "name",
    [
        "thinker",
        "thinker.model",  # the name of a module that holds others
        "thinker.",
        "thinker.a\nb.weight",
        "thinker.model.layers.0.mlp.experts.1.gate_proj.weight\n",
        "model.layers.0.self_attn.\nk_scale",
        ".",
        "",
        "thinker.model.layers.999999999999.weight",
    ],
)
@pytest.mark.parametrize("model_type", ["qwen3_omni_moe", "another"])
def test_a_strange_name_is_a_finding(name: str, model_type: str, directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config.update(model_type=model_type))
    module = name.removesuffix(".weight")
    added(directory, name, *(f"{module}.{end}" for end in ("weight_scale", "weight_scale_2", "input_scale", "k_scale")))
    assert render_judgement(judged(directory, ())).isascii() is False


@pytest.mark.parametrize("rows", [0, 16])
@pytest.mark.parametrize("width", [0, 8, 24, 32])
def test_a_norm_that_no_block_fits(width: int, rows: int, directory: Path) -> None:
    """In a model of another type nothing says how wide a norm is."""
    edit_json(directory, "config.json", lambda config: config.update(model_type="another"))
    checkpoint = scan(directory)
    tensors = {entry: checkpoint.array(entry) for entry in checkpoint.entries} | {NORM: bfloat16(np.ones(width))}
    for name in ("v_proj", "gate_proj", "up_proj"):
        for entry in [entry for entry in tensors if f".{name}.weight_scale" in entry and not entry.endswith("_2")]:
            tensors[entry] = tensors[entry][:rows, : width // 16]
            codes = entry.removesuffix("_scale")
            tensors[codes] = tensors[codes][:rows, : width // 2]
    write_file(directory / "model.safetensors", tensors)
    judged(directory, ())


def test_texts_have_an_end(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["ignore"].append("x" * 1_000_000))
    findings = judged(directory, ()).findings
    assert any("1,000," in finding.where for finding in findings)
    assert all(len(text) <= 600 for f in findings for text in (f.where, f.found, f.expected, f.fix))


def test_remedies_that_name_files_have_an_end(directory: Path) -> None:
    names = {f"t{number}": f"f{number}.safetensors" for number in range(2000)}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    findings = judged(directory, ()).findings
    named = [finding for finding in findings if finding.check == "container"]
    assert len(named) < 100
    assert sum(map(judging.stands_for, named)) == 2000


def test_more_memory_than_there_is(directory: Path) -> None:
    def hungry(_: Subject) -> Iterator[Fault]:
        yield Fault("a", "b", "c", "d")
        raise MemoryError

    check = Check("hungry", "consistent", None, hungry)
    found: list[Finding] = list(judging._run(check, Subject(scan(directory))))
    assert [finding.found for finding in found] == ["b", "more memory needed than there is"]


@pytest.mark.parametrize("name", ["[bold]", "[/]", "[/bold] :smile:", "\x1b[31m", "a\nb"])
def test_a_modality_is_printed_as_it_is_spelled(name: str, directory: Path) -> None:
    record = load_record(directory / "q3omni")
    tokens = next(iter(record.expert_tokens.values()))
    printed = render_record(replace(record, expert_tokens={name: tokens}, samples={name: 1}))
    assert "\x1b" not in printed
    if "\n" not in name and "\x1b" not in name:
        assert name in printed


def test_a_record_without_numbers_for_its_layers(directory: Path) -> None:
    """Rows of no width cost no bytes, and a million of them for each of a million modalities would never end."""
    record = load_record(directory / "q3omni")
    modules = next(iter(record.expert_tokens.values()))
    empty = replace(record, expert_tokens={"text": dict.fromkeys(modules, ())})
    for name, data in encode_record(empty).items():
        (directory / "q3omni" / name).write_bytes(data)
    with pytest.raises(Inconsistent, match="shape"):
        load_record(directory / "q3omni")
    many = replace(record, expert_tokens={f"m{number}": modules for number in range(101)})
    for name, data in encode_record(many).items():
        (directory / "q3omni" / name).write_bytes(data)
    with pytest.raises(Unreadable, match="102 tensors"):
        load_record(directory / "q3omni")


def test_the_records_folder_stays_in_the_checkpoint(sound: SoundCheckpoint, directory: Path) -> None:
    shutil.rmtree(directory / "q3omni")
    (directory / "q3omni").symlink_to(sound("sharded") / "q3omni")
    judgement = verify(directory)
    assert judgement.verdict("calibrated").state == "fail"
    assert any("leaves the checkpoint" in finding.found for finding in judgement.findings)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "q3omni/record.json"])
def test_links_that_leave_are_not_read(name: str, directory: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"token": "hunter2"}')
    (directory / name).unlink(missing_ok=True)
    (directory / name).symlink_to(secret)
    if name == "config.json":
        with pytest.raises(Inconsistent, match="leaves the checkpoint's directory"):
            verify(directory)
        return
    judgement = verify(directory)
    assert "leaves the checkpoint's directory" in str(judgement.findings)
    assert "hunter2" not in str(judgement)


@pytest.mark.parametrize(
    "expression",
    ["(?R)", "(a(?1)?b)", "{" * 100_000, "(?:a{100}){1000}", "(?P<x>a)(?P<x>b)", "[", "a{4294967296}", r"\L<words>"],
)
def test_expressions_that_engines_refuse(expression: str) -> None:
    with pytest.raises(Exception, match=r".") as caught:
        _compiled(expression)
    assert type(caught.value).__name__ == "error"


def test_a_long_pattern_is_not_compiled(directory: Path) -> None:
    edit_quantization(directory, lambda block: block.update(ignore=["a?" * 500_000]))
    assert any(finding.where == f"{CONFIG}.ignore" for finding in judged(directory, ()).findings)


@pytest.mark.parametrize("value", [{"a": "x" * 10_000_000}, "9" * 4000, 10**4000, ["x" * 1_000_000]])
def test_a_refusal_is_short(value: Any, directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config["thinker_config"]["text_config"].update(vocab_size=value))
    assert all(len(finding.found) < 200 for finding in judged(directory, ()).findings)


def test_a_tensors_name_has_an_end(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    write_file(file, {"a" * 500: np.zeros(1, np.float32)})
    assert len(read_header(file)) == 1
    write_file(file, {"a" * 501: np.zeros(1, np.float32)})
    with pytest.raises(Unreadable, match="501 characters"):
        read_header(file)


@pytest.mark.parametrize("shape", [[0, 2**61], [2**31, 2**31, 0], [2**40, 0, 2**20]])
def test_an_empty_tensor_of_a_shape_that_no_array_has(shape: list[int], tmp_path: Path) -> None:
    """Found by fuzzing a record: no bytes at all, and numpy's `reshape` stops with "array is too big"."""
    file = tmp_path / "model.safetensors"
    text = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(Unreadable, match="no array can have"):
        read_header(file)


def test_values_of_a_header_have_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_q3omni.omni.safetensors_file._MOST_VALUES", 100)
    text = b'{"a":{"dtype":"F32","shape":[' + b"1," * 100 + b'1],"data_offsets":[0,4]}}'
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    with pytest.raises(Unreadable, match="100 values"):
        read_header(tmp_path / "model.safetensors")


def test_all_shards_together_have_an_end(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = len(scan(directory).entries)
    added(directory, "x", "y")
    assert not scan(directory).problems
    monkeypatch.setattr("pytest_q3omni.omni.checkpoint.MOST_TENSORS", held + 1)
    problems = scan(directory).problems
    assert len(problems) == 1
    assert f"more than {held + 1:,}" in problems[0].found


def test_a_companion_of_the_source_that_cannot_be_read_is_told(sound: SoundCheckpoint, tmp_path: Path) -> None:
    """Found by letting each file in turn fail: the comparison was left out without a word."""
    source = Path(shutil.copytree(sound.original("nvfp4-default"), tmp_path / "source"))
    (source / "generation_config.json").write_text("{")
    judgement = judged(sound("nvfp4-default"), ("source",), source)
    told = [finding for finding in judgement.findings if finding.where == "generation_config.json"]
    assert [finding.severity for finding in told] == ["warning"]
    assert "not compared" in told[0].found


def test_an_index_has_an_end(directory: Path) -> None:
    listed = {f"t{number}": f"f{number}.safetensors" for number in range(10_001)}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}))
    assert [problem.found for problem in scan(directory).problems] == ["10,001 tensors in 10,001 files"]


def test_lists_of_layers_are_not_searched_for_every_layer() -> None:
    """A million numbers, looked through for each of 25,000 layers, take minutes."""

    class Searched(list[int]):
        def __contains__(self, item: object) -> bool:
            raise AssertionError(item)

    sizes = ("hidden_size", "num_experts", "num_attention_heads", "num_key_value_heads", "moe_intermediate_size")
    values = {
        **dict.fromkeys(sizes, 4),
        "num_hidden_layers": 2,
        "intermediate_size": 4,
        "mlp_only_layers": Searched([1]),
    }
    names = [name for name, _ in moe_layers("model.layers", Section(values, "config"), shared_expert=False)]
    assert "model.layers.1.mlp.up_proj.weight" in names
    assert "model.layers.0.mlp.experts.3.up_proj.weight" in names


def test_differences_are_counted_and_not_kept(directory: Path, sound: SoundCheckpoint, tmp_path: Path) -> None:
    """Each place would be a text of 2,000 characters: 200 MB for this file."""
    from pytest_q3omni.verify.checks.companions import _changed

    here = {"k" * 1900: {f"{number}": 0 for number in range(100_000)}}
    there = {"k" * 1900: {f"{number}": 1 for number in range(100_000)}}
    tracemalloc.start()
    try:
        count, first = _changed(here, there)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 100_000
    assert first is not None
    assert peak < 20_000_000


@pytest.mark.parametrize("module", ["a", "a.b", "b", "a-b", "", "zz"])
def test_names_within_a_module(module: str) -> None:
    names = ["a", "a.b", "a.b.c", "a.c", "a-b.c", "a/b", "ab.c", "b.a", ".a", "a.b/c"]
    assert list(SortedNames(names).within(module)) == sorted(n for n in names if n.startswith(f"{module}."))
