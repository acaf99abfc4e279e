"""Calibration: what it records, and that no failure passes in silence."""

import dataclasses
import math
import shutil

import pytest

pytestmark = pytest.mark.tiny

_REASON = "needs the quantize extra: pip install pytest-q3omni[quantize]"
torch = pytest.importorskip("torch", reason=_REASON)
pytest.importorskip("transformers", reason=_REASON)
pytest.importorskip("modelopt", reason=_REASON)

from pytest_q3omni.calibrate import observe  # noqa: E402
from pytest_q3omni.calibrate.observe import check_amax, run_calibration  # noqa: E402
from pytest_q3omni.engines.transformers import thinker_step  # noqa: E402
from pytest_q3omni.errors import (  # noqa: E402
    EngineError,
    Inconsistent,
    InvalidRequest,
    MissingDependency,
    NonFiniteAmax,
    SamplesFailed,
)
from pytest_q3omni.omni.conversations import load_conversations, parse_conversation  # noqa: E402
from pytest_q3omni.omni.tiny import checkpoint_path, conversations_path  # noqa: E402
from pytest_q3omni.plan.build import build_plan  # noqa: E402

SOURCE = checkpoint_path()
SITES = sorted(
    f"thinker.model.layers.{layer}.{site}"
    for layer in (0, 1)
    for site in ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.experts.gate_up_proj", "mlp.experts.down_proj")
)


@pytest.fixture(scope="module")
def plan():
    return build_plan(SOURCE, "nvfp4-default")


@pytest.fixture(scope="module")
def conversations():
    return load_conversations(conversations_path())


@pytest.fixture(scope="module")
def record(plan, conversations):
    return run_calibration(SOURCE, plan, conversations[:9])


@pytest.fixture
def never_quantized(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("quantized in spite of a failure that was known before")

    monkeypatch.setattr(observe.modelopt, "fake_quantize", fail)


def question(text, number=1, *parts):
    message = {"role": "user", "content": [*parts, {"type": "text", "text": text}]}
    return parse_conversation({"messages": [message]}, f"mine.jsonl:{number}", SOURCE)


def test_the_record_names_the_plans_sites(record, plan):
    assert list(record.input_amax) == SITES
    assert all(0 < value < 1e4 for value in record.input_amax.values())
    assert all(value == float(torch.tensor(value).bfloat16()) for value in record.input_amax.values())
    assert (record.recipe, record.source_fingerprint) == ("nvfp4-default", plan.fingerprint)


def test_the_record_counts_samples_and_tokens(record, conversations):
    kinds = [conversation.modalities for conversation in conversations[:9]]
    assert record.samples == {kind: sum(kind in item for item in kinds) for kind in ("text", "image", "audio")}
    assert (record.samples_total, record.samples_passed, record.failures) == (9, 9, ())
    assert set(record.expert_tokens) == {"text", "image", "audio"}
    assert all(sum(counts) > 0 for tokens in record.expert_tokens.values() for counts in tokens.values())


def test_versions_are_recorded(record):
    assert set(record.versions) == {"pytest-q3omni", "torch", "transformers", "nvidia-modelopt"}


def test_calibrating_again_gives_the_same_record(record, plan, conversations):
    assert run_calibration(SOURCE, plan, conversations[:9]) == record


def test_more_data_never_lowers_an_amax(record, plan, conversations):
    more = run_calibration(SOURCE, plan, conversations[:15])
    assert all(more.input_amax[site] >= value for site, value in record.input_amax.items())


def test_progress_is_told(plan, conversations):
    told = []
    run_calibration(SOURCE, plan, conversations[:3], progress=lambda *step: told.append(step))
    assert {what for what, _, _ in told} == {"checking conversations", "calibrating"}
    assert told[-1] == ("calibrating", 3, 3)
    assert ("checking conversations", 3, 3) in told


def test_progress_comes_to_its_end_while_looking_for_all_failures(plan, conversations):
    told = []

    def step(model, inputs):
        raise RuntimeError("none")

    with pytest.raises(SamplesFailed):
        run_calibration(SOURCE, plan, conversations[:9], step=step, progress=lambda *step: told.append(step))
    assert [done for what, done, total in told if what == "looking for all failures"] == list(range(told[-1][2] + 1))


@pytest.mark.parametrize("recipe", ["nvfp4-mlp-weight-only", "bf16"])
def test_recipes_without_input_scales_record_coverage_alone(record, conversations, never_quantized, recipe):
    found = run_calibration(SOURCE, build_plan(SOURCE, recipe), conversations[:9])
    assert found.input_amax == {}
    assert found.expert_tokens == record.expert_tokens


# --- the investigation's run: 60 of 60 samples failed, the process said "done"


def test_the_investigations_step_ends_in_an_error_with_the_cause(plan, conversations, never_quantized):
    assert len(conversations) == 60
    with pytest.raises(SamplesFailed) as caught:
        run_calibration(SOURCE, plan, conversations, step=lambda model, inputs: model(**inputs))
    error = caught.value
    assert "60 of 60 samples failed before anything was quantized" in error.found
    assert "TypeError: _forward_unimplemented() got an unexpected keyword argument 'input_ids'" in error.found
    assert "[conversations.jsonl:1, " in error.found
    assert ", and 50 more]" in error.found
    assert "model.thinker(**inputs)" in error.fix


def test_failures_that_begin_with_quantization_are_counted_too(plan, conversations):
    """As the investigation believed it to be: the forward works before, and fails once quantizers are in."""

    def step(model, inputs):
        if any("quantizer" in name for name, _ in model.named_modules()):
            raise RuntimeError("quantized and broken")
        return thinker_step(model, inputs)

    with pytest.raises(SamplesFailed, match=r"12 of 12 samples failed while calibrating: RuntimeError: quantized and"):
        run_calibration(SOURCE, plan, conversations[:12], step=step)


def test_one_failure_in_sixty_is_enough(plan, conversations):
    calls = []

    def step(model, inputs):
        calls.append(1)
        if len(calls) == 30:
            raise ValueError("only once")
        return thinker_step(model, inputs)

    with pytest.raises(SamplesFailed, match=r"1 of 60 samples failed while calibrating: ValueError: only once \[conv"):
        run_calibration(SOURCE, plan, conversations, step=step)


def test_nan_in_an_activation_names_the_sample(plan, conversations):
    def step(model, inputs):
        if "pixel_values" in inputs:
            inputs = {**inputs, "pixel_values": inputs["pixel_values"] * float("nan")}
        return thinker_step(model, inputs)

    with pytest.raises(SamplesFailed, match=r"NaN or Inf.*\[conversations\.jsonl:2, conversations\.jsonl:5"):
        run_calibration(SOURCE, plan, conversations[:6], step=step)


def test_interrupts_are_not_failures(plan, conversations):
    def step(model, inputs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_calibration(SOURCE, plan, conversations[:3], step=step)


# --- what preflight finds without the model


def test_all_bad_conversations_are_named_at_once(plan, conversations, tmp_path, monkeypatch):
    monkeypatch.setattr(observe, "load_model", lambda *args, **kwargs: pytest.fail("the model was loaded"))
    (tmp_path / "cat.png").write_bytes(b"no picture")
    bad_picture = question("What?", 1, {"type": "image", "image": str(tmp_path / "cat.png")})
    placeholder = question("<|audio_pad|>", 2)
    with pytest.raises(SamplesFailed) as caught:
        run_calibration(SOURCE, plan, [bad_picture, placeholder, *conversations[:4]])
    found = caught.value.found
    assert "2 of 6 samples failed before the model was loaded" in found
    assert f"\n  - {tmp_path / 'cat.png'}: cannot be decoded" in found
    assert "[mine.jsonl:1]" in found
    assert "1 times <|audio_pad|> in the prompt; expected 0" in found
    assert "[mine.jsonl:2]" in found
    assert [found.count(f"mine.jsonl:{number}") for number in (1, 2)] == [1, 1]
    assert str(caught.value).count("Fix:") == 1
    assert "(save it again as PNG or JPEG with 8 bits a channel) [mine.jsonl:1]" in found


def test_a_template_without_chatml_fails_all(conversations, tmp_path):
    copy = shutil.copytree(SOURCE, tmp_path / "model")
    plain = '{"chat_template": "{% for m in messages %}{{ m.role }}: {% endfor %}"}'
    (copy / "chat_template.json").write_text(plain)
    import json

    config = json.loads((copy / "tokenizer_config.json").read_text())
    config["chat_template"] = json.loads(plain)["chat_template"]
    (copy / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(SamplesFailed, match=r"3 of 3 samples failed before.*no `<\|im_start\|>user`"):
        run_calibration(copy, build_plan(copy, "nvfp4-default"), [item for item in conversations if item.answered][:3])


def test_a_missing_reader_is_no_failed_sample(plan, conversations, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    with pytest.raises(MissingDependency, match="soundfile"):
        run_calibration(SOURCE, plan, conversations[:3])


def test_many_causes_are_cut(plan, conversations):
    def step(model, inputs):
        step.calls += 1
        raise RuntimeError(f"cause {step.calls}")

    step.calls = 0
    with pytest.raises(SamplesFailed) as caught:
        run_calibration(SOURCE, plan, conversations[:15], step=step)
    assert caught.value.found.count("RuntimeError") == 10
    assert "and 5 more causes" in caught.value.found


# --- tolerance


def test_tolerated_failures_are_named_in_the_record(record, plan, conversations, tmp_path):
    (tmp_path / "cat.png").write_bytes(b"no picture")
    bad = question("What?", 7, {"type": "image", "image": str(tmp_path / "cat.png")})
    found = run_calibration(SOURCE, plan, [*conversations[:9], bad], tolerate_failures=1)
    assert (found.samples_total, found.samples_passed) == (10, 9)
    assert [failure.sample for failure in found.failures] == ["mine.jsonl:7"]
    assert "cannot be decoded" in found.failures[0].cause
    assert "\n" not in found.failures[0].cause
    assert found.input_amax == record.input_amax
    assert found.expert_tokens == record.expert_tokens


def test_a_failed_sample_is_not_covered(record, plan, conversations):
    """It ran through all layers before it failed, and counts for nothing."""

    def step(model, inputs):
        thinker_step(model, inputs)
        if torch.equal(inputs["input_ids"], step.bad):
            raise RuntimeError("late")

    from pytest_q3omni.engines.transformers import conversation_inputs
    from pytest_q3omni.omni.processor import load_processor

    step.bad = conversation_inputs(load_processor(SOURCE), conversations[9])["input_ids"]
    found = run_calibration(SOURCE, plan, conversations[:10], step=step, tolerate_failures=1)
    assert [failure.sample for failure in found.failures] == [conversations[9].id]
    assert found.expert_tokens == record.expert_tokens
    assert found.input_amax == record.input_amax


@pytest.mark.parametrize("factor", [10.0, math.nan])
def test_a_sample_that_fails_after_its_forward_leaves_no_amax(record, plan, conversations, factor):
    """Preflight passes; quantized, one conversation runs through all layers, louder (or NaN) before it fails."""
    from pytest_q3omni.engines.transformers import conversation_inputs
    from pytest_q3omni.omni.processor import load_processor

    bad, calls = conversation_inputs(load_processor(SOURCE), conversations[9])["input_ids"], []

    def step(model, inputs):
        quantized = any("quantizer" in name for name, _ in model.named_modules())
        if not quantized or not torch.equal(inputs["input_ids"], bad):
            return thinker_step(model, inputs)
        calls.append(1)
        norms = [layer.input_layernorm.weight for layer in model.thinker.model.layers]
        before = [norm.data.clone() for norm in norms]
        try:
            for norm in norms:
                norm.data *= factor
            thinker_step(model, inputs)
        finally:
            for norm, values in zip(norms, before, strict=True):
                norm.data.copy_(values)
        raise RuntimeError("late")

    found = run_calibration(SOURCE, plan, conversations[:10], step=step, tolerate_failures=1)
    assert calls == [1]
    assert [failure.sample for failure in found.failures] == [conversations[9].id]
    assert (found.failures[0].cause == "RuntimeError: late") == math.isfinite(factor)
    assert found.input_amax == record.input_amax


def test_nan_logits_of_a_tolerated_sample_are_its_cause(record, plan, conversations):
    def step(model, inputs):
        step.calls += 1
        output = thinker_step(model, inputs)
        if step.calls == 3 + 10:
            output.logits[0, 0, 0] = math.nan
        return output

    step.calls = 0  # one of each kind, then all
    found = run_calibration(SOURCE, plan, conversations[:10], step=step, tolerate_failures=1)
    assert [failure.sample for failure in found.failures] == [conversations[9].id]
    assert "NaN or Inf among the model's logits" in found.failures[0].cause
    assert found.input_amax == record.input_amax


def test_an_engine_error_with_a_new_failure_runs_again(record, plan, conversations, monkeypatch):
    """NaN that a tolerated sample left in a quantizer may stop ModelOpt when all samples are through."""
    quantize, calls = observe.modelopt.fake_quantize, []

    def stumbling(model, plan, loop, **options):
        model = quantize(model, plan, loop, **options)
        calls.append(1)
        if len(calls) == 1:
            raise EngineError("NaN in a quantizer")
        return model

    def step(model, inputs):
        step.calls += 1
        if step.calls == 3 + 10:
            raise RuntimeError("late")
        return thinker_step(model, inputs)

    step.calls = 0
    monkeypatch.setattr(observe.modelopt, "fake_quantize", stumbling)
    found = run_calibration(SOURCE, plan, conversations[:10], step=step, tolerate_failures=1)
    assert len(calls) == 2
    assert found.input_amax == record.input_amax


def test_the_model_of_the_second_run_speaks_as_the_first(plan, conversations, monkeypatch):
    loaded = []

    def load(*args, **kwargs):
        loaded.append(kwargs)
        return observe_load(*args, **kwargs)

    observe_load = observe.load_model
    monkeypatch.setattr(observe, "load_model", load)

    def step(model, inputs):
        step.calls += 1
        if step.calls == 6:
            raise RuntimeError("once")
        return thinker_step(model, inputs)

    step.calls = 0
    run_calibration(SOURCE, plan, conversations[:6], step=step, tolerate_failures=1)
    assert len(loaded) == 2
    assert loaded[0] == loaded[1]


# --- what the model makes of a sample


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_that_are_no_numbers_fail_the_sample(plan, conversations, value, never_quantized):
    def step(model, inputs):
        output = thinker_step(model, inputs)
        if "input_features" in inputs:
            output.logits[0, 1, 2] = value
        return output

    with pytest.raises(
        SamplesFailed, match=r"2 of 6 .*NaN or Inf among the model's logits.*longer recordings"
    ) as caught:
        run_calibration(SOURCE, plan, conversations[:6], step=step)
    deaf = [item.id for item in conversations[:6] if "audio" in item.modalities]
    assert f"[{', '.join(deaf)}]" in caught.value.found


def test_only_sound_is_told_to_be_longer(plan, conversations, never_quantized):
    def step(model, inputs):
        output = thinker_step(model, inputs)
        return type(output)(logits=output.logits * math.nan)

    text = [item for item in conversations if item.modalities == {"text"}][:2]
    with pytest.raises(SamplesFailed, match="NaN or Inf among the model's logits") as caught:
        run_calibration(SOURCE, plan, text, step=step)
    assert "recording" not in caught.value.found


def test_a_step_may_return_anything(record, plan, conversations):
    def step(model, inputs):
        thinker_step(model, inputs)

    assert run_calibration(SOURCE, plan, conversations[:9], step=step) == record


def test_text_beyond_the_models_context_is_refused_before_it_is_loaded(plan, conversations, monkeypatch, capfd):
    monkeypatch.setattr(observe, "load_model", lambda *args, **kwargs: pytest.fail("the model was loaded"))
    with pytest.raises(SamplesFailed, match=r"\d{4,5} tokens; expected at most 2048, .*\[mine\.jsonl:3\]"):
        run_calibration(SOURCE, plan, [*conversations[:3], question("word " * 3000, 3)])
    assert capfd.readouterr() == ("", "")


def test_one_more_than_tolerated_is_an_error(plan, conversations):
    def step(model, inputs):
        if "input_features" in inputs:
            raise RuntimeError("deaf")
        return thinker_step(model, inputs)

    with pytest.raises(SamplesFailed, match=r"2 of 6 samples failed.*1 failures are tolerated"):
        run_calibration(SOURCE, plan, conversations[:6], step=step, tolerate_failures=1)


def test_no_sample_left_is_an_error_whatever_is_tolerated(plan, conversations):
    def step(model, inputs):
        raise RuntimeError("none")

    with pytest.raises(SamplesFailed, match="3 of 3"):
        run_calibration(SOURCE, plan, conversations[:3], step=step, tolerate_failures=99)


# --- requests that make no sense


def test_no_conversations(plan):
    with pytest.raises(InvalidRequest, match="no conversations"):
        run_calibration(SOURCE, plan, [])


def test_two_of_the_same_name(plan, conversations):
    with pytest.raises(InvalidRequest, match=r"two conversations are called conversations\.jsonl:1"):
        run_calibration(SOURCE, plan, [conversations[0], conversations[0]])


def test_a_plan_for_another_checkpoint(plan, conversations):
    with pytest.raises(Inconsistent, match="belongs to another checkpoint"):
        run_calibration(SOURCE, dataclasses.replace(plan, fingerprint="0" * 64), conversations[:3])


# --- amax that no scale can be made of


@pytest.mark.parametrize(("value", "shown"), [
    (math.nan, "nan"), (math.inf, "inf"), (0.0, "0.0"), (-1.0, "-1.0"), (None, "saw no data"),
])  # fmt: skip
def test_a_useless_amax_is_named(plan, value, shown):
    found = dict.fromkeys(SITES, 1.0)
    check_amax(plan, found)
    found[SITES[3]] = value
    if value is None:
        del found[SITES[3]]
    with pytest.raises(NonFiniteAmax, match=r"1 of 8 input sites") as caught:
        check_amax(plan, found)
    assert f"{SITES[3]}: {shown}" in caught.value.found
    assert caught.value.fix


def test_a_planned_layer_that_no_sample_reaches_is_named(plan, conversations):
    """Talker layers, and a step that only runs the thinker: ModelOpt itself says nothing."""
    tensors = tuple(
        dataclasses.replace(tensor, action="nvfp4", input_site=tensor.module)
        if tensor.source.name.startswith("talker.model.layers.0.self_attn.o_proj")
        else tensor
        for tensor in plan.tensors
    )
    with pytest.raises(NonFiniteAmax, match=r"1 of 9 .*talker\.model\.layers\.0\.self_attn\.o_proj: saw no data"):
        run_calibration(SOURCE, dataclasses.replace(plan, tensors=tensors), conversations[:3])


def test_a_dead_layer_is_named(plan, conversations, tmp_path):
    """An all-zero norm before attention: its inputs are zero, and ModelOpt would replace the amax without a word."""
    from pytest_q3omni.omni.checkpoint import open_checkpoint

    copy = shutil.copytree(SOURCE, tmp_path / "model")
    entry = open_checkpoint(copy).entries["thinker.model.layers.1.input_layernorm.weight"]
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(entry.begin)
        file.write(bytes(entry.end - entry.begin))
    with pytest.raises(NonFiniteAmax, match=r"thinker\.model\.layers\.1\.self_attn\.qkv_proj: 0\.0"):
        run_calibration(copy, plan, conversations[:3])


def test_modelopts_own_failure_is_an_engine_error(plan, conversations, monkeypatch):
    def fail(*args, **kwargs):
        raise EngineError("ModelOpt cannot")

    monkeypatch.setattr(observe.modelopt, "fake_quantize", fail)
    with pytest.raises(EngineError, match="ModelOpt cannot"):
        run_calibration(SOURCE, plan, conversations[:3])
