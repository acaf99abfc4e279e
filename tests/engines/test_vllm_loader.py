"""Our side of vLLM: what its process is given, how its answer is read, and how it may end. vLLM itself is faked."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_interpreter import LOADED, FakeInterpreter

from pytest_q3omni.engines import vllm_loader
from pytest_q3omni.engines.vllm_loader import INSIDE, VLLMLoader, fed, stage
from pytest_q3omni.errors import EngineError, InvalidRequest, UnknownName
from pytest_q3omni.omni.checkpoint import Checkpoint, open_checkpoint, scan
from pytest_q3omni.omni.storage import LocalFiles
from pytest_q3omni.omni.tiny import checkpoint_path

pytestmark = pytest.mark.tiny


@pytest.fixture
def checkpoint() -> Checkpoint:
    """The tiny original will do: the engine is faked."""
    return open_checkpoint(checkpoint_path())


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint_path(), tmp_path / "checkpoint"))


def replies(count: int, first: int = 7) -> dict[str, Any]:
    said = [{"tokens": [first, 8], "text": "GQ"} for _ in range(count)]
    return {"versions": {}, "rejected": None, "answers": said, "seconds": 10.0, "peak_bytes": 1_800_000_000}


def test_the_request_holds_every_tensor_with_its_place(tmp_path: Path, checkpoint: Checkpoint) -> None:
    fake = FakeInterpreter(tmp_path, loads=LOADED)
    report = VLLMLoader("headers", fake.python).load(checkpoint)
    (run,) = fake.seen
    assert run["inside"] == str(INSIDE)
    assert run["request"]["depth"] == "headers"
    assert len(run["request"]["tensors"]) == len(checkpoint.entries)
    name, dtype, shape, file, begin, end = run["request"]["tensors"][0]
    entry = checkpoint.entries[name]
    assert (dtype, tuple(shape), file) == (entry.info.dtype, entry.info.shape, str(entry.file))
    assert (begin, end) == (entry.begin, entry.end)
    assert (report.name, report.tensors, report.parameters, report.depth) == ("vLLM 0.32.0", 599, 121, "headers")


def test_to_load_it_needs_configs_only(tmp_path: Path, checkpoint: Checkpoint) -> None:
    fake = FakeInterpreter(tmp_path, loads=LOADED)
    VLLMLoader("bytes", fake.python).load(checkpoint)
    assert fake.seen[0]["files"] == ["config.json"]


def test_nothing_of_our_environment_gets_into_the_engines(
    tmp_path: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("VIRTUAL_ENV", "/ours")
    fake = FakeInterpreter(tmp_path, loads=LOADED)
    VLLMLoader("headers", fake.python).load(checkpoint)
    (run,) = fake.seen
    assert not {"PYTHONPATH", "VIRTUAL_ENV"} & run["environment"].keys()
    assert run["cwd"] != str(Path.cwd())
    assert not Path(run["cwd"]).exists(), "the folder goes away"


def test_only_safetensors_and_known_files_are_handed_over(copied: Path, tmp_path: Path) -> None:
    """No pickle, no code, no link that leaves the checkpoint: vLLM might open what it finds."""
    for name in ("pytorch_model.bin", "modeling_evil.py", "training_args.pt"):
        (copied / name).write_bytes(b"\x80\x04.")
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    (copied / "vocab.json").unlink()
    (copied / "vocab.json").symlink_to(secret)
    stage(scan(copied), tmp_path / "staged", whole=True)
    staged = {file.name for file in (tmp_path / "staged").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.json"} <= staged
    assert not staged & {"pytorch_model.bin", "modeling_evil.py", "training_args.pt", "vocab.json", "README.md"}
    assert (tmp_path / "staged" / "model.safetensors").resolve() == copied / "model.safetensors"


def test_tensors_that_the_index_does_not_name_are_not_fed(checkpoint: Checkpoint) -> None:
    """vLLM reads the files that an index names, where there is one."""
    elsewhere = replace(checkpoint, index={"some.tensor": "another.safetensors"})
    assert fed(elsewhere) == []
    assert len(fed(checkpoint)) == len(checkpoint.entries)


class OnAHub(LocalFiles):
    """Headers and small files are here, weights are not."""

    holds_weights = False


def test_of_a_checkpoint_on_a_hub_headers_can_be_judged(tmp_path: Path, checkpoint: Checkpoint) -> None:
    remote = replace(checkpoint, storage=OnAHub())
    fake = FakeInterpreter(tmp_path, loads=LOADED)
    assert VLLMLoader("headers", fake.python).load(remote).rejected is None
    for depth in ("bytes", "answers"):
        with pytest.raises(InvalidRequest, match="on a hub"):
            VLLMLoader(depth, fake.python).load(remote, checkpoint)


def test_a_refusal_is_a_result(tmp_path: Path, checkpoint: Checkpoint) -> None:
    refusal = {"step": "load", "tensor": "thinker.lm_head.weight", "message": "RuntimeError: sizes"}
    short = {key: LOADED[key] for key in ("versions", "tensors", "seconds", "peak_bytes")}
    fake = FakeInterpreter(tmp_path, loads={**short, "rejected": refusal})
    report = VLLMLoader("headers", fake.python).load(checkpoint)
    assert report.rejected is not None
    assert (report.rejected.step, report.rejected.tensor) == ("load", "thinker.lm_head.weight")


def test_unwritten_parameters_are_read(tmp_path: Path, checkpoint: Checkpoint) -> None:
    item = {"parameter": "x.w2_weight", "module": "m.experts", "suffix": "w2_weight", "written": 7, "total": 8,
            "rows": 8, "gaps": [[3, 4]], "why": ""}  # fmt: skip
    fake = FakeInterpreter(tmp_path, loads={**LOADED, "unwritten": [item]})
    report = VLLMLoader("headers", fake.python).load(checkpoint)
    (found,) = report.unwritten
    assert (found.module, found.parameter, found.written, found.total) == ("m.experts", "w2_weight", 7, 8)
    assert found.gaps == ((3, 4),)


def test_a_process_that_dies_is_told_with_its_last_lines(tmp_path: Path, checkpoint: Checkpoint) -> None:
    said = [f"line {number}" for number in range(20)] + ["ImportError: no kernel"]
    fake = FakeInterpreter(tmp_path, says=said, code=3)
    with pytest.raises(EngineError, match=r"ended with code 3.*line 19 / ImportError: no kernel") as caught:
        VLLMLoader("headers", fake.python).load(checkpoint)
    assert "line 3 " not in caught.value.found
    assert str(fake.python) in caught.value.where


def test_a_process_that_is_killed_is_told_with_the_signal(tmp_path: Path, checkpoint: Checkpoint) -> None:
    fake = FakeInterpreter(tmp_path, signal=9)
    with pytest.raises(EngineError, match=r"signal 9 \(Killed\).*lack of memory"):
        VLLMLoader("headers", fake.python).load(checkpoint)


def test_a_process_that_hangs_is_ended(tmp_path: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_loader, "SECONDS", {"headers": 0.5})
    fake = FakeInterpreter(tmp_path, sleeps=3600, loads=LOADED)
    with pytest.raises(EngineError, match=r"no answer within 0\.5 s"):
        VLLMLoader("headers", fake.python).load(checkpoint)


@pytest.mark.parametrize("answer", ["no JSON", "[]", '{"rejected": null}', '{"versions": 3}'])
def test_nonsense_is_no_report(answer: str, tmp_path: Path, checkpoint: Checkpoint) -> None:
    with pytest.raises(EngineError, match="something else than a report"):
        VLLMLoader("headers", FakeInterpreter(tmp_path, loads=answer).python).load(checkpoint)


@pytest.mark.parametrize("answer", ["[]", '{"rejected": null}', '{"rejected": null, "answers": []}'])
def test_nonsense_is_no_answer(
    answer: str, tmp_path: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_loader, "is_bundled", lambda original: False)
    fake = FakeInterpreter(tmp_path, loads=LOADED, answers=answer)
    with pytest.raises(EngineError, match="something else than a report"):
        VLLMLoader("answers", fake.python).load(checkpoint, checkpoint)


def test_an_unknown_depth_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="one of headers, bytes, answers"):
        VLLMLoader("deep", tmp_path)


def test_answers_need_the_original(tmp_path: Path, checkpoint: Checkpoint) -> None:
    fake = FakeInterpreter(tmp_path, loads=LOADED)
    with pytest.raises(InvalidRequest, match="--source SRC"):
        VLLMLoader("answers", fake.python).load(checkpoint)
    assert not fake.seen


def test_both_models_are_asked_the_same(
    tmp_path: Path, checkpoint: Checkpoint, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_loader, "is_bundled", lambda original: False)  # the tiny's own questions need decoders
    fake = FakeInterpreter(tmp_path, loads=LOADED, answers=[replies(12), replies(12, first=9)])
    report = VLLMLoader("answers", fake.python).load(scan(copied), checkpoint)
    loading, first, second = fake.seen
    assert loading["request"]["depth"] == "headers"
    assert first["request"]["questions"] == second["request"]["questions"]
    assert {"model.safetensors", "tokenizer.json"} <= set(second["files"])
    assert len(report.replies) == 12
    assert {reply.modality for reply in report.replies} == {"text", "image", "audio"}
    assert (report.replies[0].original, report.replies[0].quantized) == ((7, 8), (9, 8))
    assert (report.seconds, report.peak_bytes) == (25.5, 1_800_000_000)


def test_an_original_that_the_engine_refuses_is_no_fault_of_the_checkpoint(
    tmp_path: Path, checkpoint: Checkpoint, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_loader, "is_bundled", lambda original: False)
    refusal = {"rejected": {"step": "load", "tensor": "", "message": "no room"}, "seconds": 1, "peak_bytes": 1}
    fake = FakeInterpreter(tmp_path, loads=LOADED, answers=refusal)
    with pytest.raises(EngineError, match="does not answer with the original: no room"):
        VLLMLoader("answers", fake.python).load(scan(copied), checkpoint)


def test_a_checkpoint_that_cannot_answer_is_refused(
    tmp_path: Path, checkpoint: Checkpoint, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_loader, "is_bundled", lambda original: False)
    refusal = {"rejected": {"step": "answer", "tensor": "", "message": "NaN"}, "seconds": 1, "peak_bytes": 1}
    fake = FakeInterpreter(tmp_path, loads=LOADED, answers=[replies(12), refusal])
    report = VLLMLoader("answers", fake.python).load(scan(copied), checkpoint)
    assert report.rejected is not None
    assert (report.rejected.step, report.rejected.message) == ("answer", "NaN")


def test_the_tiny_is_known_by_its_weights(checkpoint: Checkpoint, copied: Path) -> None:
    assert vllm_loader.is_bundled(checkpoint)
    file = copied / "model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[8 + int.from_bytes(raw[:8], "little")] ^= 1  # the first tensor's first byte
    file.write_bytes(raw)
    assert not vllm_loader.is_bundled(scan(copied))


def test_media_travel_as_raw_bytes(tmp_path: Path) -> None:
    from pytest_q3omni.engines.vllm_questions import RATE, ask, general_questions

    asked = ask(general_questions(), tmp_path)
    image = next(question["images"][0] for question in asked if question["images"])
    assert Path(image["file"]).stat().st_size == 3 * image["width"] * image["height"]
    audio = next(question["audios"][0] for question in asked if question["audios"])
    assert audio["rate"] == RATE
    assert Path(audio["file"]).stat().st_size % 4 == 0
    assert json.dumps(asked)
