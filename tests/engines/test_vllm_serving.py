"""vLLM as a serving engine: what it is given, with a fake in its place; and what the real one says of the tiny pair."""

from __future__ import annotations

import json
import os
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from worker_script import FakeServer

from pytest_q3omni.engines.engine_python import VARIABLE, find_python
from pytest_q3omni.engines.serving import Prompt
from pytest_q3omni.engines.vllm import VLLMEngine
from pytest_q3omni.engines.vllm_loader import INSIDE
from pytest_q3omni.errors import EngineError, InvalidRequest, MissingDependency, Unreadable
from pytest_q3omni.omni.checkpoint import open_checkpoint
from pytest_q3omni.omni.config import read_json
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.serve.throughput import vocabulary_of

pytestmark = pytest.mark.tiny

LOADED = {
    "versions": {"vllm": "0.32.0"}, "device": "a device", "capability": None, "weight_bytes": 1, "kv_cache_bytes": 2,
    "kv_cache_tokens": 3, "linear": {}, "experts": {}, "attention": {}, "cuda_graphs": "none", "expert_tuning": "",
}  # fmt: skip


@pytest.fixture
def fake(tmp_path: Path) -> FakeServer:
    return FakeServer(tmp_path, LOADED)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint_path(), tmp_path / "checkpoint"))


def request(fake: FakeServer, path: Path | None = None, **options):
    """What its process is told of a load."""
    engine = VLLMEngine(path or checkpoint_path(), python=fake.python, **options)
    engine.load()
    engine.close()
    return fake.seen[-1]


def test_what_it_is_told_without_options(fake) -> None:
    seen = request(fake)
    assert (seen["program"], seen["do"]) == (str(INSIDE / "__main__.py"), "serve")
    assert seen["folder"] == seen["cwd"]
    assert not Path(seen["folder"]).exists(), "the folder goes away"
    options = {"enforce_eager": False, "max_model_len": 4096, "max_num_batched_tokens": 8192, "max_num_seqs": 64}
    assert seen["request"] == {
        "do": "load", "model": str(Path(seen["folder"]) / "model"), "dummy": False, "text_only": False,
        "options": options,
    }  # fmt: skip


def test_options_reach_it_under_its_own_names(fake) -> None:
    told = request(
        fake, eager=True, at_once=7, max_model_len=10_000, linear_backend="emulation", moe_backend="triton",
        gpu_memory=0.5,
    )["request"]  # fmt: skip
    assert told["options"] == {
        "enforce_eager": True, "max_model_len": 10_000, "max_num_batched_tokens": 10_000, "max_num_seqs": 7,
        "linear_backend": "emulation", "moe_backend": "triton", "gpu_memory_utilization": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "dummy", "text_only"),
    [({}, False, False), ({"text_only": True}, False, True), ({"weights": "random"}, True, True)],
)
def test_random_weights_have_no_towers(fake, options, dummy, text_only) -> None:
    told = request(fake, **options)["request"]
    assert (told["dummy"], told["text_only"]) == (dummy, text_only)


def test_it_sees_links_to_weights_and_copies_of_small_files_alone(fake, copied) -> None:
    for name in ("pytorch_model.bin", "modeling_evil.py", "training_args.pt", "model.pickle"):
        (copied / name).write_bytes(b"\x80\x04.")
    files = request(fake, copied)["files"]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    assert {Path(name).suffix for name in files} <= {".json", ".safetensors", ".txt", ".jinja"}


def test_of_random_weights_it_sees_the_config_alone(fake, tmp_path) -> None:
    folder = tmp_path / "shapes"
    folder.mkdir()
    shutil.copy(checkpoint_path() / "config.json", folder)
    seen = request(fake, folder, weights="random")
    assert seen["files"] == ["config.json"]
    assert seen["config"] == json.loads((folder / "config.json").read_text())
    assert request(fake, weights="random")["files"] == ["config.json"], "also where there is more"


def test_nothing_of_our_environment_gets_there(fake, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/ours")
    monkeypatch.setenv("VIRTUAL_ENV", "/ours")
    assert not {"PYTHONPATH", "VIRTUAL_ENV"} & request(fake)["environment"].keys()


@pytest.mark.parametrize("weights", ["real", "random"])
def test_a_directory_that_is_no_checkpoint_is_refused_and_leaves_nothing(fake, tmp_path, weights) -> None:
    engine = VLLMEngine(tmp_path / "absent", weights=weights, python=fake.python)
    with pytest.raises(Unreadable, match="absent"):
        engine.load()
    with pytest.raises(InvalidRequest, match="not loaded"):
        engine.memory()
    assert fake.seen == []


def test_an_interpreter_that_is_none_is_said_before_anything_runs(tmp_path) -> None:
    with pytest.raises(InvalidRequest, match="no such file"):
        VLLMEngine(checkpoint_path(), python=tmp_path / "absent")


def test_its_interpreter_is_named_in_what_it_says(fake) -> None:
    engine = VLLMEngine(checkpoint_path(), python=fake.python)
    engine.load()
    with pytest.raises(EngineError, match=r"vLLM in .*python: `memory` failed: ValueError: not here"):
        engine.memory()
    engine.close()


# With vLLM itself, from here on. One engine of each kind for all tests: each takes about ten seconds to load.


def without_vllm() -> str:
    """Why vLLM cannot be asked here, "" where it can."""
    try:
        find_python()
    except MissingDependency as error:
        return f"{error.found}: needs an environment with vLLM, {VARIABLE} or `tox run -e vllm`"
    return ""


NEEDS_VLLM = pytest.mark.skipif(bool(without_vllm()), reason=without_vllm())
SMALL = {"eager": True, "max_model_len": 512, "at_once": 8}
ROW = tuple(range(300, 312))


@pytest.fixture(scope="module")
def serve():
    """The engine of a checkpoint with these options, loaded once for all tests here."""
    engines: dict[str, VLLMEngine] = {}

    def loaded(path: Path, **options) -> VLLMEngine:
        key = f"{path} {options}"
        if key not in engines:
            engines[key] = VLLMEngine(path, **SMALL, **options)
            engines[key].load()
        return engines[key]

    yield loaded
    for engine in engines.values():
        engine.close()


def questions(kind: str):
    for name in ("PIL", "soundfile"):
        pytest.importorskip(name, reason="needs the quantize extra: pip install pytest-q3omni[quantize]")
    from pytest_q3omni.engines.vllm_questions import bundled_questions

    return [one for one in bundled_questions() if one.modality == kind][:3]


@pytest.fixture
def transformers(serve):
    """The same checkpoint on transformers."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from pytest_q3omni.engines.transformers_serving import TransformersEngine

    opened = []

    def load(path: Path):
        opened.append(TransformersEngine(path, device="cpu"))
        opened[-1].load()
        return opened[-1]

    yield load
    for engine in opened:
        engine.close()


@NEEDS_VLLM
def test_it_says_what_transformers_says(serve, transformers, original_checkpoint) -> None:
    """Text, pictures and sound: the same answers, and nearly the same log-probabilities, token by token."""
    ours, theirs = serve(original_checkpoint), transformers(original_checkpoint)
    for kind in ("text", "image", "audio"):
        asked = questions(kind)
        said = ours.generate([Prompt(question=one) for one in asked], 16)
        other = theirs.generate([Prompt(question=one) for one in asked], 16)
        assert [(one.tokens, one.text) for one in said] == [(one.tokens, one.text) for one in other]
        prompts = [Prompt(question=one, reply=made.tokens) for one, made in zip(asked, said, strict=True)]
        for a, b, made in zip(ours.prompt_logprobs(prompts), theirs.prompt_logprobs(prompts), said, strict=True):
            count = len(made.tokens)
            assert a.tokens[-count:] == b.tokens[-count:] == made.tokens == a.most_likely[-count:]
            pairs = zip(a.logprobs[-count:], b.logprobs[-count:], strict=True)
            assert max(abs(mine - its) for mine, its in pairs) < 0.05, kind


@NEEDS_VLLM
def test_the_quantized_checkpoint_says_what_its_original_says(serve, original_checkpoint, quantized_checkpoint) -> None:
    before, after = serve(original_checkpoint), serve(quantized_checkpoint, text_only=True)
    asked = [Prompt(question=one) for one in questions("text")]
    assert [one.text for one in after.generate(asked, 16)] == [one.text for one in before.generate(asked, 16)]
    rows = [Prompt(tokens=ROW)]
    assert after.prompt_logprobs(rows)[0].logprobs != before.prompt_logprobs(rows)[0].logprobs


@NEEDS_VLLM
def test_what_it_loads_is_said(serve, original_checkpoint, quantized_checkpoint) -> None:
    before, after = serve(original_checkpoint).load(), serve(quantized_checkpoint, text_only=True).load()
    assert {"vllm", "torch", "transformers"} <= before.versions.keys()
    assert before.kernels.eager
    assert before.kv_cache_tokens > 512
    assert before.kv_cache_bytes > 0
    assert before.weight_bytes > after.weight_bytes > 100_000, "without towers, and packed"
    assert sum(before.kernels.experts.values()) == sum(after.kernels.experts.values()) == 2
    assert not any("NVFP4" in name.upper() for name in (*before.kernels.linear, *before.kernels.experts))
    assert {name: count for name, count in after.kernels.linear.items() if "NvFp4" in name}
    assert all("NVFP4" in name for name in after.kernels.experts)
    assert sum(after.kernels.attention.values()) >= 2


@NEEDS_VLLM
def test_tokens_have_times_of_their_own(serve, original_checkpoint) -> None:
    engine = serve(original_checkpoint)
    made = engine.generate([Prompt(tokens=ROW), Prompt(tokens=ROW[:4])], 6, past_the_end=True)
    for one in made:
        assert len(one.tokens) == len(one.times) == 6
        assert one.times[0] > 0
        assert all(before < after for before, after in pairwise(one.times))
    assert made[0].times == made[1].times, "they run together"


@NEEDS_VLLM
def test_many_are_answered_in_their_order(serve, original_checkpoint) -> None:
    """More than run together, of different lengths: what ends or waits longer must not come out in another place."""
    engine = serve(original_checkpoint)
    prompts = [Prompt(tokens=ROW[:length], reply=ROW[-1:]) for length in (9, 2, 11, 3, 5, 8, 4, 10, 6, 7, 1)]
    made = engine.generate(prompts, 4, past_the_end=True)
    assert [one.tokens for one in made] == [engine.generate([one], 4, past_the_end=True)[0].tokens for one in prompts]
    likely = engine.prompt_logprobs(prompts)
    assert [one.tokens for one in likely] == [(*one.tokens, *one.reply)[1:] for one in prompts]
    assert all(value <= 0 for one in likely for value in one.logprobs)


@NEEDS_VLLM
def test_a_refused_batch_leaves_nothing_behind(serve, original_checkpoint) -> None:
    engine = serve(original_checkpoint)
    with pytest.raises(EngineError, match=r"`generate` failed: .*out of vocabulary"):
        engine.generate([Prompt(tokens=ROW), Prompt(tokens=(10**6,))], 4)
    (made,) = engine.generate([Prompt(tokens=ROW)], 4, past_the_end=True)
    assert len(made.tokens) == 4
    assert engine.memory().allocated >= 0


@NEEDS_VLLM
def test_without_the_towers_a_picture_is_refused(serve, quantized_checkpoint) -> None:
    with pytest.raises(EngineError, match=r"`generate` failed: ValueError: .*ulti-modal"):
        serve(quantized_checkpoint, text_only=True).generate([Prompt(question=questions("image")[0])], 4)


@NEEDS_VLLM
def test_random_weights_need_no_more_than_a_config(serve, tmp_path, quantized_checkpoint) -> None:
    shutil.copy(quantized_checkpoint / "config.json", tmp_path)
    engine = VLLMEngine(tmp_path, weights="random", **SMALL)
    loaded, real = engine.load(), serve(quantized_checkpoint, text_only=True).load()
    assert (loaded.weights, real.weights) == ("random", "real")
    assert (loaded.weight_bytes, loaded.kernels) == (real.weight_bytes, real.kernels), "speed and memory are real"
    made = engine.generate([Prompt(tokens=ROW)] * 3, 8, past_the_end=True)
    assert len({one.tokens for one in made}) == 3, "sampled: greedy ones would go the same way, to the same experts"
    vocabulary = vocabulary_of(read_json(tmp_path / "config.json"))
    assert all(0 <= token < vocabulary for one in made for token in one.tokens)
    pid = engine._process._process.pid
    engine.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)  # closed, it is gone


@NEEDS_VLLM
def test_weights_that_are_not_packed_as_declared_are_refused_in_its_own_words(copied, quantized_checkpoint) -> None:
    shutil.copy(quantized_checkpoint / "config.json", copied)
    with pytest.raises(EngineError, match=r"`load` failed: RuntimeError: The size of tensor .* must match"):
        VLLMEngine(copied, text_only=True, **SMALL).load()


@NEEDS_VLLM
def test_a_config_without_a_field_is_refused_in_its_own_words(copied) -> None:
    config = json.loads((copied / "config.json").read_text())
    del config["architectures"]
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(EngineError, match=r"`load` failed: .*No model architectures are specified"):
        VLLMEngine(copied, text_only=True, **SMALL).load()


@NEEDS_VLLM
def test_nan_is_handed_on(copied) -> None:
    """A checkpoint that computes NaN loads: whoever compares its log-probabilities has to see it."""
    entry = open_checkpoint(copied).entries["thinker.model.norm.weight"]
    with entry.file.open("r+b") as stream:
        stream.seek(entry.begin)
        stream.write(b"\xc0\x7f" * ((entry.end - entry.begin) // 2))
    engine = VLLMEngine(copied, text_only=True, **SMALL)
    engine.load()
    (found,) = engine.prompt_logprobs([Prompt(tokens=ROW)])
    assert all(value != value for value in found.logprobs)
    engine.close()
