"""The verdict `loads`, over reports that an engine could make of the tiny checkpoints."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from _checkpoint_edit import EXPERT, LAYER, write
from sound_checkpoints import SoundCheckpoint

from pytest_q3omni.engines.engine_report import EngineReport, Rejection, Reply, Unwritten
from pytest_q3omni.omni.checkpoint import Checkpoint
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.records import Finding, Judgement
from pytest_q3omni.verify.judge import judge

pytestmark = pytest.mark.tiny

EXPERTS = f"{LAYER}.mlp.experts"
QUANTIZED = {
    f"thinker.model.layers.{layer}.{unit}": "w4a4"
    for layer in (0, 1)
    for unit in ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.experts")
}
REPORT = EngineReport(
    engine="vllm",
    depth="headers",
    versions={"vllm": "0.32.0", "torch": "2.13.0+cpu", "platform": "cpu"},
    tensors=599,
    parameters=121,
    elements=862_256,
    methods={**QUANTIZED, "thinker.lm_head": "unquantized", f"{LAYER}.mlp.gate": "unquantized"},
)
"""What vLLM 0.32 says of `nvfp4-default`."""

Loads = Callable[[EngineReport], tuple[Judgement, list[Finding]]]


@pytest.fixture
def loads(sound: SoundCheckpoint) -> Loads:
    """The judgement that a report leads to, and its findings under `loads`."""

    def call(report: EngineReport) -> tuple[Judgement, list[Finding]]:
        return told(judge(sound("nvfp4-default"), engine=lambda checkpoint, original: report))

    return call


def told(judgement: Judgement) -> tuple[Judgement, list[Finding]]:
    return judgement, [found for found in judgement.findings if found.check.startswith("loader-")]


def gap(parameter: str, written: int, total: int, gaps: tuple[tuple[int, int], ...], **other: object) -> Unwritten:
    return replace(Unwritten(EXPERTS, parameter, written, total, 8, gaps), **other)


def test_a_sound_checkpoint_passes_and_says_what_was_proved(loads: Loads) -> None:
    judgement, findings = loads(REPORT)
    verdict = judgement.verdict("loads")
    assert (verdict.state, findings) == ("pass", [])
    assert "vLLM 0.32.0, headers: 599 tensors write all of 121 parameters" in verdict.why
    assert "6 of 8 layers quantized as stored (6 as W4A4)" in verdict.why
    assert "talker, code_predictor, code2wav not checked: needs vllm-omni" in verdict.why


def test_without_an_engine_it_is_not_checked(sound: SoundCheckpoint) -> None:
    verdict = judge(sound("nvfp4-default")).verdict("loads")
    assert verdict.state == "not checked"
    assert "--engine vllm" in verdict.why


def test_the_engine_gets_checkpoint_and_original(sound: SoundCheckpoint) -> None:
    asked: list[tuple[Checkpoint, Checkpoint | None]] = []

    def engine(checkpoint: Checkpoint, original: Checkpoint | None) -> EngineReport:
        asked.append((checkpoint, original))
        return REPORT

    judge(sound("nvfp4-default"), engine=engine)
    judge(sound("nvfp4-default"), source=checkpoint_path(), engine=engine)
    assert [checkpoint.path for checkpoint, _ in asked] == [sound("nvfp4-default")] * 2
    assert asked[0][1] is None
    assert asked[1][1] is not None
    assert asked[1][1].path == checkpoint_path()


def test_a_refusal_is_told_in_the_engines_words(loads: Loads) -> None:
    refusal = Rejection("load", "AssertionError: parameter.py:197: shapes", f"{LAYER}.self_attn.k_proj.weight")
    judgement, (finding,) = loads(replace(REPORT, rejected=refusal, methods={}, parameters=0))
    assert judgement.verdict("loads").state == "fail"
    assert (finding.check, finding.where) == ("loader-accepts", f"{LAYER}.self_attn.k_proj.weight")
    assert "vLLM 0.32.0 refuses the checkpoint while it loads: AssertionError: parameter.py:197" in finding.found


def test_a_refusal_before_any_tensor_is_the_configs(loads: Loads) -> None:
    _, (finding,) = loads(replace(REPORT, rejected=Rejection("build", "AttributeError: no attribute"), methods={}))
    assert finding.where == "config.json"
    assert "while it builds the model" in finding.found


def test_a_known_trap_says_what_to_do(sound: SoundCheckpoint) -> None:
    report = replace(REPORT, rejected=Rejection("load", "RuntimeError: sizes", "thinker.lm_head.weight"), methods={})
    _, (finding,) = told(judge(sound("plain-nvfp4"), engine=lambda *_: report))
    assert "MIXED_PRECISION" in finding.fix
    other = replace(report, versions={"vllm": "0.40.0"})
    _, (finding,) = told(judge(sound("plain-nvfp4"), engine=lambda *_: other))
    assert "MIXED_PRECISION" not in finding.fix, "a release that the table does not know"


def test_a_trap_is_not_said_against_the_engines_own_word(sound: SoundCheckpoint) -> None:
    alone = judge(sound("plain-nvfp4"))
    assert [finding.severity for finding in alone.findings if finding.check == "engine-traps"] == ["warning"]
    assert alone.verdict("loads").state == "not checked"
    accepted = judge(sound("plain-nvfp4"), engine=lambda *_: REPORT)
    assert not [finding for finding in accepted.findings if finding.check == "engine-traps"]
    assert accepted.verdict("loads").state == "pass"


def test_an_expert_that_is_not_written_is_named_by_its_tensor(sound: SoundCheckpoint, tmp_path: Path) -> None:
    directory = sound.copy("nvfp4-default", tmp_path / "copy")
    write(directory, {f"{EXPERT}.up_proj.weight_scale": None})
    report = replace(REPORT, unwritten=(gap("w13_weight_scale", 7680, 8192, ((3, 4),)),))
    judgement, (finding,) = told(judge(directory, engine=lambda *_: report))
    assert finding.where == f"{EXPERT}.up_proj.weight_scale"
    assert "writes 7,680 of 8,192 elements of w13_weight_scale: not expert 3" in finding.found
    assert "whatever was in that memory" in finding.found
    assert judgement.verdict("loads").state == "fail"


def test_a_scale_that_is_cut_short_is_named_by_its_tensor(sound: SoundCheckpoint, tmp_path: Path) -> None:
    import numpy as np
    from _checkpoint_edit import read

    directory = sound.copy("nvfp4-default", tmp_path / "copy")
    name = f"{EXPERT}.down_proj.weight_scale"
    write(directory, {name: np.ascontiguousarray(read(directory, name)[:-1])})
    report = replace(REPORT, unwritten=(gap("w2_weight_scale", 4092, 4096, ((3, 4),)),))
    _, (finding,) = told(judge(directory, engine=lambda *_: report))
    assert finding.where == name


def test_many_experts_are_counted(loads: Loads) -> None:
    many = Unwritten(EXPERTS, "w2_weight", 0, 1280, 128, ((0, 128),))
    _, findings = loads(replace(REPORT, unwritten=(many,)))
    assert len(findings) == 9
    assert findings[-1].where == EXPERTS
    assert "120 more experts, up to 127" in findings[-1].found


def test_a_fused_layer_is_named_by_the_member_that_is_missing(sound: SoundCheckpoint, tmp_path: Path) -> None:
    directory = sound.copy("nvfp4-default", tmp_path / "copy")
    write(directory, {f"{LAYER}.self_attn.v_proj.weight_scale_2": None})
    item = Unwritten(f"{LAYER}.self_attn.qkv_proj", "weight_scale_2", 2, 3, 3, ((2, 3),))
    _, (finding,) = told(judge(directory, engine=lambda *_: replace(REPORT, unwritten=(item,))))
    assert finding.where == f"{LAYER}.self_attn.v_proj.weight_scale_2"
    assert "not rows 2 of 3" in finding.found


def test_a_norm(loads: Loads) -> None:
    item = Unwritten(f"{LAYER}.input_layernorm", "weight", 0, 128, 128, ((0, 128),))
    _, (finding,) = loads(replace(REPORT, unwritten=(item,)))
    assert finding.where == f"{LAYER}.input_layernorm.weight"
    assert "rows 0 to 127 of 128" in finding.found


def test_what_an_engine_fills_itself_is_no_fault(loads: Loads) -> None:
    item = gap("w13_input_scale", 0, 16, ((0, 8),), why="weight-only layers do not use it")
    judgement, findings = loads(replace(REPORT, unwritten=(item,)))
    assert not findings
    assert "write all of 120 parameters, 1 more need none or have a default" in judgement.verdict("loads").why


def test_a_cache_scale_that_is_missing_is_a_warning(loads: Loads) -> None:
    """vLLM takes 1 for it."""
    item = Unwritten(f"{LAYER}.self_attn.attn", "k_scale", 0, 1, 1, ((0, 1),))
    judgement, (finding,) = loads(replace(REPORT, unwritten=(item,)))
    assert finding.severity == "warning"
    assert "it takes 1 instead" in finding.found
    assert judgement.verdict("loads").state == "pass"


def test_a_packed_layer_that_runs_unquantized_fails(loads: Loads) -> None:
    methods = {**REPORT.methods, EXPERTS: "unquantized"}
    judgement, (finding,) = loads(replace(REPORT, methods=methods))
    assert (finding.check, finding.where, finding.severity) == ("loader-methods", EXPERTS, "error")
    assert "runs it unquantized" in finding.found
    assert judgement.verdict("loads").state == "fail"


def test_a_packed_layer_that_the_engine_has_not(loads: Loads) -> None:
    methods = {unit: scheme for unit, scheme in REPORT.methods.items() if unit != EXPERTS}
    _, (finding,) = loads(replace(REPORT, methods=methods))
    assert "has no such layer" in finding.found


def test_a_layer_that_only_the_engine_quantizes(loads: Loads) -> None:
    _, (finding,) = loads(replace(REPORT, methods={**REPORT.methods, "thinker.lm_head": "w4a4"}))
    assert (finding.where, finding.expected) == ("thinker.lm_head", "unquantized, as it is stored")


def test_other_numerics_are_a_warning(loads: Loads) -> None:
    judgement, (finding,) = loads(replace(REPORT, methods={**REPORT.methods, EXPERTS: "w4a16"}))
    assert finding.severity == "warning"
    assert "computes it as W4A16" in finding.found
    assert judgement.verdict("loads").state == "pass"


def test_another_format_is_an_error(loads: Loads) -> None:
    _, (finding,) = loads(replace(REPORT, methods={**REPORT.methods, EXPERTS: "Mxfp4MoEMethod"}))
    assert finding.severity == "error"
    assert "`Mxfp4MoEMethod`" in finding.found


@pytest.mark.parametrize("base", ["mixed", "ct-mixed"])
def test_fp8_layers_are_expected_as_fp8(base: str, sound: SoundCheckpoint) -> None:
    methods = {unit: "w4a4" if "experts" in unit else "fp8" for unit in QUANTIZED}
    judgement, findings = told(judge(sound(base), engine=lambda *_: replace(REPORT, methods=methods)))
    assert not findings
    assert "4 as FP8, 2 as W4A4" in judgement.verdict("loads").why


def test_loading_never_means_unquantized() -> None:
    report = replace(REPORT, methods={"thinker.lm_head": "unquantized"})
    judgement, findings = told(judge(checkpoint_path(), engine=lambda *_: report))
    assert [finding.check for finding in findings] == ["loader-methods"]
    assert "quantizes none of its 1 layers" in findings[0].found
    assert judgement.verdict("loads").state == "fail"


def reply(modality: str, number: int, *, same: bool) -> Reply:
    return Reply(f"{modality} {number}", modality, (7, 8), (7, 8) if same else (9, 9), ("GQ", "GQ" if same else "!!"))


def test_answers_are_counted_by_modality(loads: Loads) -> None:
    replies = tuple(reply(modality, n, same=n > 0) for modality in ("text", "image") for n in range(4))
    judgement, findings = loads(replace(REPORT, depth="answers", replies=replies))
    assert not findings
    assert "token by token: text 3/4, image 3/4" in judgement.verdict("loads").why


def test_nonsense_in_one_modality_fails(loads: Loads) -> None:
    replies = tuple(
        reply(modality, n, same=modality == "text" or n == 0) for modality in ("text", "audio") for n in range(4)
    )
    judgement, (finding,) = loads(replace(REPORT, depth="answers", replies=replies))
    assert (finding.check, finding.where) == ("loader-answers", "audio answers")
    assert "1 of 4 begin as the original's" in finding.found
    assert "'!!' instead of 'GQ'" in finding.found
    assert judgement.verdict("loads").state == "fail"


def test_an_engine_is_not_asked_about_half_a_checkpoint(sound: SoundCheckpoint, tmp_path: Path) -> None:
    directory = sound.copy("nvfp4-default", tmp_path / "copy")
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])

    def engine(*_: object) -> EngineReport:
        raise AssertionError("asked")

    verdict = judge(directory, engine=engine).verdict("loads")
    assert verdict.state == "not checked"
    assert "cannot be read" in verdict.why


def test_an_engine_is_not_asked_about_a_model_of_any_size(sound: SoundCheckpoint, tmp_path: Path) -> None:
    from _checkpoint_edit import edit_json

    directory = sound.copy("nvfp4-default", tmp_path / "copy")
    edit_json(directory, "config.json", lambda c: c["thinker_config"]["text_config"].update(num_hidden_layers=2**30))

    def engine(*_: object) -> EngineReport:
        raise AssertionError("asked")

    assert judge(directory, engine=engine).verdict("loads").state == "not checked"


def test_of_names_that_the_config_does_not_imply_nothing_is_known(loads: Loads) -> None:
    """A thinker exported without its prefix: vLLM renames what it finds, and loads it."""
    judgement, findings = loads(replace(REPORT, methods={**REPORT.methods, "model.layers.0.mlp.experts": "w4a4"}))
    assert not findings
    assert "7 of 9 layers quantized (7 as W4A4)" in judgement.verdict("loads").why
