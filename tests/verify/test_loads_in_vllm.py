"""vLLM's own loader over good and broken checkpoints: the real one, where there is an environment with it."""

import functools
from pathlib import Path

import pytest
from _checkpoint_edit import read, write
from sound_checkpoints import SoundCheckpoint, load_fault

from pytest_q3omni.api import verify
from pytest_q3omni.engines.engine_python import VARIABLE, find_python
from pytest_q3omni.errors import MissingDependency
from pytest_q3omni.omni.checkpoint import scan
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.records import Judgement


@functools.cache
def without_vllm() -> str:
    """Why vLLM cannot be asked here, "" where it can."""
    try:
        find_python()
    except MissingDependency as error:
        return f"{error.found}: needs an environment with vLLM, {VARIABLE} or `tox run -e vllm`"
    return ""


pytestmark = [pytest.mark.tiny, pytest.mark.skipif(bool(without_vllm()), reason=without_vllm())]

SOUND = {
    "nvfp4-default": "6 as W4A4",
    "nvfp4-mlp-weight-only": "2 as W4A16",
    "sharded": "6 as W4A4",
    "mixed": "4 as FP8, 2 as W4A4",
    "fp8-kv": "6 as W4A4",
    "ct-w4a4": "6 as W4A4",
    "ct-w4a16": "2 as W4A16",
    "ct-mixed-dynamic": "4 as FP8 with dynamic inputs, 2 as W4A4",
    "qwen3-moe": "9 as W4A4",
}
FAULTS = {  # fault -> (check, part of the place, part of what is found)
    "block_scales_missing": ("loader-coverage", "experts.3.down_proj.weight_scale", "3,584 of 4,096"),
    "block_scales_cut_short": ("loader-coverage", "experts.3.down_proj.weight_scale", "4,092 of 4,096"),
    "global_scale_missing": ("loader-coverage", "o_proj.weight_scale_2", "0 of 1"),
    "input_scale_missing": ("loader-coverage", "experts.3", "15 of 16"),
    "norm_missing": ("loader-coverage", "post_attention_layernorm.weight", "0 of 128"),
    "lm_head_missing": ("loader-coverage", "thinker.lm_head.weight", "0 of"),
    "attention_in_bf16": ("loader-accepts", "self_attn", "AssertionError: parameter.py"),
    "one_expert_in_bf16": ("loader-accepts", "experts.3", "RuntimeError: The size of tensor"),
    "audio_tower_packed": ("loader-accepts", "audio_tower", "There is no module or parameter named"),
    "pre_quant_scale_left": ("loader-accepts", "q_proj.pre_quant_scale", "AttributeError"),
    "lm_head_in_bf16_under_plain_nvfp4": ("loader-accepts", "thinker.lm_head", "The size of tensor"),
    "unknown_algorithm": ("loader-accepts", "config.json", "ModelOpt currently only supports"),
}


def judged(directory: Path, depth: str = "headers", source: Path | None = None) -> Judgement:
    return verify(directory, source=source, engine="vllm", depth=depth)


@pytest.mark.parametrize("base", SOUND)
def test_a_sound_checkpoint_loads(base: str, sound: SoundCheckpoint) -> None:
    verdict = judged(sound(base)).verdict("loads")
    assert verdict.state == "pass", verdict.why
    assert SOUND[base] in verdict.why


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_by_the_loader(name: str, sound: SoundCheckpoint, tmp_path: Path) -> None:
    fault, (check, where, found) = load_fault(name).FAULT, FAULTS[name]
    directory = sound.copy(fault.base, tmp_path / "copy")
    fault.break_(directory)
    judgement = judged(directory)
    findings = [finding for finding in judgement.findings if finding.check == check]
    assert any(where in finding.where and found in finding.found for finding in findings), "\n".join(map(str, findings))
    assert judgement.verdict("loads").state == "fail"


@pytest.mark.parametrize("base", ["nvfp4-mlp-weight-only", "ct-w4a4"])
def test_bytes_agree_with_headers(base: str, sound: SoundCheckpoint) -> None:
    verdict = judged(sound(base), "bytes").verdict("loads")
    assert verdict.state == "pass", verdict.why
    assert "bytes:" in verdict.why


def test_bytes_find_an_unwritten_scale(sound: SoundCheckpoint, tmp_path: Path) -> None:
    fault = load_fault("block_scales_missing").FAULT
    directory = sound.copy(fault.base, tmp_path / "copy")
    fault.break_(directory)
    errors = [finding for finding in judged(directory, "bytes").findings if finding.check == "loader-coverage"]
    assert [finding.where for finding in errors] == ["thinker.model.layers.0.mlp.experts.3.down_proj.weight_scale"]


@pytest.mark.parametrize("base", ["nvfp4-default", "ct-w4a16"])
def test_it_answers_like_the_original(base: str, sound: SoundCheckpoint) -> None:
    pytest.importorskip("soundfile", reason="needs the quantize extra to read sound")
    verdict = judged(sound(base), "answers", checkpoint_path()).verdict("loads")
    assert verdict.state == "pass", verdict.why
    assert "text 10/10, image 10/10, audio 9/9" in verdict.why


def test_nonsense_is_heard(sound: SoundCheckpoint, tmp_path: Path) -> None:
    """Even and odd columns of every packed weight exchanged: all of it loads."""
    pytest.importorskip("soundfile", reason="needs the quantize extra to read sound")
    directory = sound.copy("nvfp4-default", tmp_path / "copy")
    names = [name for name, entry in scan(directory).entries.items() if entry.info.dtype == "U8"]
    codes = {name: read(directory, name) for name in names}
    write(directory, {name: code << 4 | code >> 4 for name, code in codes.items()})
    judgement = judged(directory, "answers", checkpoint_path())
    errors = {finding.check for finding in judgement.findings if finding.check.startswith("loader-")}
    assert errors == {"loader-answers"}
    assert judgement.verdict("loads").state == "fail"
