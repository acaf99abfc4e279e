"""The judge: verdicts, what they need, what they say, and the sizes it reports."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from _checkpoint_edit import EXPERT, LAYER, bfloat16, edit_json, read, write, write_file
from sound_checkpoints import SoundCheckpoint, judged

from pytest_q3omni.calibrate.record import load_record
from pytest_q3omni.errors import Inconsistent, UnknownName, Unreadable
from pytest_q3omni.omni.checkpoint import scan
from pytest_q3omni.omni.tiny import checkpoint_path, record_path
from pytest_q3omni.plan.build import build_plan
from pytest_q3omni.verify.judge import SHOWN, VERDICTS, judge, stands_for

pytestmark = pytest.mark.tiny


@pytest.fixture
def broken(sound: SoundCheckpoint, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(sound("nvfp4-default"), tmp_path / "checkpoint"))


def test_every_verdict_is_answered_in_order(sound: SoundCheckpoint) -> None:
    judgement = judged(sound("nvfp4-default"))
    assert tuple(verdict.name for verdict in judgement.verdicts) == VERDICTS
    assert all(verdict.why for verdict in judgement.verdicts)
    states = {verdict.name: verdict.state for verdict in judgement.verdicts}
    assert [name for name, state in states.items() if state == "pass"] == list(VERDICTS[:4])
    assert [name for name, state in states.items() if state == "not checked"] == ["loads", "agrees", "serves"]


def test_what_is_missing_is_said(sound: SoundCheckpoint) -> None:
    judgement = judged(sound("nvfp4-default"), ())
    assert judgement.verdict("faithful").state == "not checked"
    assert "needs the source" in judgement.verdict("faithful").why
    assert "needs the calibration record" in judgement.verdict("calibrated").why
    weight_only = judged(sound("nvfp4-mlp-weight-only"), ())
    assert weight_only.verdict("calibrated").state == "not checked"
    assert "no activation is quantized" in weight_only.verdict("calibrated").why


def test_exactly_what_packing_gives_is_said(sound: SoundCheckpoint) -> None:
    judgement = judged(sound("nvfp4-default"))
    why = judgement.verdict("faithful").why
    assert "all 56 packed tensors are exactly what packing the source gives" in why
    assert "375 of 375 unpacked tensors are identical" in why
    errors = judgement.tensor_errors
    assert len(errors) == 56
    assert f"{EXPERT}.down_proj.weight" in errors
    assert all(0.08 < relative < 0.11 and relative < worst < 0.2 for relative, worst in errors.values())


@pytest.mark.parametrize("recipe", ["nvfp4-default", "nvfp4-mlp-weight-only"])
def test_facts_are_the_plans_figures(recipe: str, sound: SoundCheckpoint) -> None:
    plan = build_plan(checkpoint_path(), recipe)
    for given in ((), ("source",)):
        facts = judged(sound(recipe), given).facts
        assert facts.stages == plan.stages
        assert list(facts.stages) == list(plan.stages)
        assert (facts.parameters, facts.tensor_bytes) == (plan.parameters, plan.tensor_bytes)
        assert facts.bits_per_parameter == plan.bits_per_parameter
        assert facts.compression_ratio == plan.compression_ratio
        assert facts.quantized_fraction == plan.quantized_fraction


def test_ratio_counts_only_stages_that_both_have(broken: Path) -> None:
    edit_json(broken, "config.json", lambda config: config.update(enable_audio_output=False))
    write(broken, {name: None for name in scan(broken).entries if name.startswith(("talker.", "code2wav."))})
    (broken / "README.md").unlink()  # which has the whole model's numbers
    judgement = judged(broken, ("source",))
    thinker = build_plan(checkpoint_path(), "nvfp4-default").stages["thinker"]
    assert judgement.facts.compression_ratio == thinker.source_bytes / thinker.tensor_bytes
    assert not judgement.failed


def test_tensors_outside_every_stage_count(broken: Path) -> None:
    write(broken, {"model.layers.0.extra.weight": bfloat16(np.ones((4, 4)))})
    facts = judged(broken, ()).facts
    assert facts.stages["other"].parameters == 16
    assert sum(stage.tensor_bytes for stage in facts.stages.values()) == facts.tensor_bytes


@pytest.mark.parametrize(("name", "hint"), [("faithfull", "did you mean 'faithful'"), ("xyz", "choose one of them")])
def test_an_unknown_verdict_is_refused(name: str, hint: str, sound: SoundCheckpoint) -> None:
    with pytest.raises(UnknownName, match=hint):
        judge(sound("nvfp4-default"), require=["packed", name])


def test_required_verdicts_change_nothing(sound: SoundCheckpoint) -> None:
    place = sound("nvfp4-default")
    assert judge(place, require=["serves", "packed"]).verdicts == judge(place).verdicts


def test_nothing_to_judge(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="no such directory"):
        judge(tmp_path / "nowhere")
    with pytest.raises(Unreadable, match=r"config\.json"):
        judge(tmp_path)


def test_a_config_without_weights(tmp_path: Path) -> None:
    shutil.copy(checkpoint_path() / "config.json", tmp_path)
    judgement = judge(tmp_path)
    assert judgement.verdict("packed").state == "not checked"
    assert judgement.verdict("consistent").state == "fail"
    assert judgement.facts.parameters == judgement.facts.compression_ratio == 0
    assert "container" in {finding.check for finding in judgement.findings}


def test_unreadable_weights_are_not_called_packed(broken: Path) -> None:
    file = broken / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    states = {verdict.name: verdict.state for verdict in judged(broken).verdicts}
    assert states["packed"] == states["faithful"] == states["calibrated"] == "not checked"
    assert states["consistent"] == "fail"


def test_a_damaged_source_is_an_error(sound: SoundCheckpoint, tmp_path: Path) -> None:
    shutil.copytree(checkpoint_path(), tmp_path / "source")
    (tmp_path / "source" / "model.safetensors").write_bytes(b"")
    with pytest.raises(Unreadable, match=r"model\.safetensors"):
        judge(sound("nvfp4-default"), source=tmp_path / "source")


def test_a_source_of_another_size_is_one_fault(sound: SoundCheckpoint, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(checkpoint_path(), source)
    edit_json(source, "config.json", lambda config: config["thinker_config"]["text_config"].update(num_experts=7))
    gone = [name for name in scan(source).entries if ".experts.7." in name and name.startswith("thinker.")]
    write(source, {**dict.fromkeys(gone), f"{LAYER}.mlp.gate.weight": read(source, f"{LAYER}.mlp.gate.weight")[:7]})
    judgement = judge(sound("nvfp4-default"), source=source)
    (error,) = [finding for finding in judgement.findings if finding.severity == "error"]
    assert error.check == "source-match"
    assert error.where == str(source)
    assert judgement.verdict("faithful").state == "fail"
    assert judgement.verdict("consistent").state == "pass"


def test_a_source_with_nan_is_named(sound: SoundCheckpoint, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(checkpoint_path(), source)
    weight = read(source, f"{EXPERT}.down_proj.weight")
    weight[3, 5] = np.nan
    write(source, {f"{EXPERT}.down_proj.weight": weight})
    (error,) = [f for f in judge(sound("nvfp4-default"), source=source).findings if f.severity == "error"]
    assert error.check == "packed-weights"
    assert error.where.startswith(f"{EXPERT}.down_proj")
    assert "the source is damaged: nan at (3, 5)" in error.found


def test_many_findings_of_one_kind_are_counted(broken: Path) -> None:
    names = [name for name in scan(broken).entries if name.endswith(".input_scale")]
    write(broken, dict.fromkeys(names))
    findings = [finding for finding in judged(broken, ()).findings if finding.check == "scales-present"]
    assert len(findings) == SHOWN + 1
    assert findings[-1].found.startswith(f"the last of {len(names) - SHOWN} more findings of this kind")
    assert [stands_for(finding) for finding in findings] == [1] * SHOWN + [len(names) - SHOWN]
    assert f"{len(names)} errors" in judged(broken, ()).verdict("consistent").why


def test_warnings_leave_the_verdict_alone(sound: SoundCheckpoint) -> None:
    record = load_record(record_path())
    silent = {layer: (0, *counts[1:]) for layer, counts in record.expert_tokens["audio"].items()}
    record = replace(record, expert_tokens={**record.expert_tokens, "audio": silent})
    judgement = judge(sound("nvfp4-default"), record=record)
    warnings = [finding for finding in judgement.findings if finding.severity == "warning" and "audio" in finding.found]
    assert len(warnings) == 2
    assert "1 of 8 experts saw no audio: 0" in warnings[0].found
    assert judgement.verdict("calibrated").state == "pass"
    assert "warnings" in judgement.verdict("calibrated").why
    assert not judgement.failed


def test_a_recorded_amax_that_is_impossible(sound: SoundCheckpoint, tmp_path: Path) -> None:
    """Scale and record agree, and both are wrong: the bound of the norm finds it."""
    directory = Path(shutil.copytree(sound("nvfp4-default"), tmp_path / "checkpoint"))
    record = load_record(record_path())
    site = f"{LAYER}.self_attn.qkv_proj"
    amax = {**record.input_amax, site: 100 * record.input_amax[site]}
    scale = np.float32(amax[site]) / np.float32(2688)
    write(directory, {f"{LAYER}.self_attn.{name}_proj.input_scale": np.array(scale) for name in "qkv"})
    errors = [f for f in judge(directory, record=replace(record, input_amax=amax)).findings if f.severity == "error"]
    assert {error.check for error in errors} == {"input-scale-range"}


def test_a_fused_source_is_refused(sound: SoundCheckpoint, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(checkpoint_path(), source)
    write(source, {f"{LAYER}.mlp.experts.down_proj": bfloat16(np.ones((8, 128, 64)))})
    with pytest.raises(Inconsistent, match="fused"):
        judge(sound("nvfp4-default"), source=source)


def test_progress_is_told(sound: SoundCheckpoint) -> None:
    told: list[tuple[str, int, int]] = []
    judge(sound("nvfp4-default"), source=checkpoint_path(), progress=lambda *what: told.append(what))
    assert {what for what, *_ in told} == {"checks", "compare unpacked tensors", "compare packed weights"}
    assert all(0 <= done <= total for _, done, total in told)


def test_importing_the_judge_is_cheap() -> None:
    heavy = ("numpy", "numba", "torch", "rich", "typer")
    code = f"import sys, pytest_q3omni.verify.judge; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_header_checks_load_no_kernels(sound: SoundCheckpoint) -> None:
    code = (
        "import sys; from pathlib import Path; from pytest_q3omni.verify.judge import judge; "
        f"judge(Path({str(sound('nvfp4-default'))!r})); print('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_what_was_not_compared_is_counted(broken: Path) -> None:
    """A tensor that another check reported is left out of the comparison, so `faithful` does not pass over it."""
    write(broken, {f"{EXPERT}.down_proj.input_scale": np.array(0, np.float32)})
    faithful = judged(broken).verdict("faithful")
    assert faithful.state == "not checked"
    assert "1 tensor could not be compared" in faithful.why
    assert "55 of 56 packed tensors" in faithful.why
    assert "1 not compared: see the findings" in faithful.why


def test_ratio_without_a_common_stage(broken: Path) -> None:
    """ModelOpt's export of the thinker alone, without its prefix: 2 bytes for each parameter, not 0.00."""
    entries = scan(broken).entries
    gone = dict.fromkeys(name for name in entries if not name.startswith("thinker.model."))
    names = [name for name in entries if name.startswith("thinker.model.")]
    renamed = {name.removeprefix("thinker."): read(broken, name) for name in names}
    write(broken, {**gone, **dict.fromkeys(names), **renamed})
    judgement = judged(broken, ("source",))
    assert judgement.facts.compression_ratio > 1
    assert "no module was recognised as packed" in judgement.verdict("calibrated").why


def test_progress_reaches_its_end(sound: SoundCheckpoint) -> None:
    told: list[tuple[str, int, int]] = []
    judge(sound("nvfp4-default"), progress=lambda *what: told.append(what))
    assert told[-1][1] == told[-1][2]


def test_a_thinker_exported_alone_is_compared_with_the_whole_models(sound: SoundCheckpoint, tmp_path: Path) -> None:
    whole = scan(sound("nvfp4-default"))
    config = {**whole.config["thinker_config"], "model_type": "qwen3_omni_moe_thinker", "dtype": "bfloat16"}
    block = dict(whole.config["quantization_config"])
    block["ignore"] = [entry.removeprefix("thinker.") for entry in block["ignore"]]
    block["quantized_layers"] = {
        name.removeprefix("thinker."): entry for name, entry in block["quantized_layers"].items()
    }
    config["quantization_config"] = block
    out = tmp_path / "alone"
    shutil.copytree(whole.path, out, ignore=shutil.ignore_patterns("*.safetensors", "q3omni", "README.md"))
    (out / "config.json").write_text(json.dumps(config))
    thinker = {name: whole.array(name) for name in whole.entries if name.startswith("thinker.")}
    write_file(out / "model.safetensors", {name.removeprefix("thinker."): array for name, array in thinker.items()})
    judgement = judge(out, source=checkpoint_path())
    assert [str(found) for found in judgement.findings if found.severity == "error"] == []
    assert judgement.verdict("faithful").state == "pass"
    assert "all 56 packed tensors are exactly" in judgement.verdict("faithful").why
    assert list(judgement.facts.stages) == ["decoder", "towers"]
