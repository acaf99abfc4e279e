"""What failures say, compared with reviewed texts in `snapshots/`: module, number, bound, remedy.

Run with Q3OMNI_UPDATE_SNAPSHOTS=1 to write them anew, and review the difference.
"""

import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_q3omni import api, assertions
from pytest_q3omni.assertions.outcome import fail
from pytest_q3omni.omni.tiny import record_path
from pytest_q3omni.parity.inputs import misfits
from pytest_q3omni.parity.limits import state
from pytest_q3omni.parity.verdict import agrees, answer_findings
from pytest_q3omni.records import Agreement, Divergence, InputRange, Parity, SampleFailure

pytestmark = pytest.mark.tiny

SNAPSHOTS = Path(__file__).with_name("snapshots")
SITE = "thinker.model.layers.1.self_attn.qkv_proj"


@pytest.fixture
def failing(request):
    """Call an assertion that must fail, and compare its text with the snapshot named after the test."""

    def call(assertion, *arguments, hide=(), **options):
        with pytest.raises((AssertionError, ValueError)) as failure:
            assertion(*arguments, **options)
        text = str(failure.value) + "\n"
        for path in hide:
            text = text.replace(str(path), f"/models/{Path(path).name.partition('-')[0]}")
        file = SNAPSHOTS / f"{request.node.name.removeprefix('test_')}.txt"
        if os.environ.get("Q3OMNI_UPDATE_SNAPSHOTS"):
            SNAPSHOTS.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
        assert text == file.read_text(encoding="utf-8")

    return call


@pytest.fixture
def record():
    return api.load_record(record_path())


@pytest.fixture
def mislabelled(original_checkpoint, quantized_checkpoint, tmp_path):
    """BF16 weights under a config that declares them packed: 1.00x, the investigation's fault."""
    made = tmp_path / "mislabelled"
    shutil.copytree(original_checkpoint, made)
    shutil.copy(quantized_checkpoint / "config.json", made / "config.json")
    return made


def test_ratio_of_weights_that_are_not_packed_as_declared(failing, mislabelled):
    failing(assertions.assert_compression_ratio, mislabelled, at_least=1.2, hide=[mislabelled])


def test_ratio_above_what_the_recipe_plans(failing, original_checkpoint, quantized_checkpoint):
    hide = [quantized_checkpoint]
    failing(assertions.assert_compression_ratio, quantized_checkpoint, original_checkpoint, at_least=2.4, hide=hide)


def test_ratio_of_a_checkpoint_that_is_not_quantized(failing, original_checkpoint):
    failing(assertions.assert_compression_ratio, original_checkpoint, at_least=2.4, hide=[original_checkpoint])


def test_ratio_of_four(failing, quantized_checkpoint):
    failing(assertions.assert_compression_ratio, quantized_checkpoint, at_least=4, hide=[quantized_checkpoint])


def test_fraction_of_weights_that_are_not_packed_as_declared(failing, mislabelled):
    failing(assertions.assert_quantized_fraction, mislabelled, at_least=0.2, hide=[mislabelled])


def test_calibration_in_which_samples_failed(failing, record):
    failures = (
        SampleFailure("mine.jsonl:3", "Unreadable: no such file: /data/cat.png"),
        SampleFailure("mine.jsonl:7", "NotChatML: no `<|im_start|>user` in the prompt 'Hello'"),
    )
    failing(assertions.assert_calibrated, replace(record, failures=failures), at_least_samples=59)


def test_calibration_with_inputs_without_data(failing, record):
    amax = {**record.input_amax, SITE: float("nan"), "thinker.model.layers.0.mlp.experts.down_proj": 0.0}
    failing(assertions.assert_calibrated, replace(record, input_amax=amax))


def test_calibration_of_a_checkpoint_with_scales_that_no_input_stands_behind(failing, quantized_checkpoint, tmp_path):
    from pytest_q3omni.calibrate.record import save_record

    made = tmp_path / "quantized"
    shutil.copytree(quantized_checkpoint, made)
    record = api.load_record(made)
    amax = {site: value for site, value in record.input_amax.items() if site != SITE}
    shutil.rmtree(made / "q3omni")
    save_record(replace(record, input_amax=amax), made / "q3omni")
    failing(assertions.assert_calibrated, made, hide=[made])


def test_coverage_in_all(failing, record):
    tokens = {
        "text": {"thinker.model.layers.0.mlp.experts": (9, 4, 0, 12), "thinker.model.layers.1.mlp.experts": (9,) * 4}
    }
    failing(assertions.assert_expert_coverage, replace(record, expert_tokens=tokens), at_least_tokens=5)


def test_coverage_of_a_modality_that_nobody_sent(failing, record):
    silent = {layer: (0,) * 8 for layer in record.expert_tokens["audio"]}
    changed = replace(record, expert_tokens={**record.expert_tokens, "audio": silent})
    failing(assertions.assert_expert_coverage, changed, modalities=["text", "audio"])


def test_plain_prompt(failing):
    failing(
        assertions.assert_chatml, "What is the capital of France? Answer in one word, and say nothing else, please."
    )


def test_messages_without_a_user(failing):
    failing(
        assertions.assert_chatml,
        [{"role": "system", "content": "You are kind."}, {"role": "assistant", "content": "Hi"}],
    )


def test_verified_lists_every_finding(failing, quantized_checkpoint, record, tmp_path):
    from pytest_q3omni.calibrate.record import save_record

    made = tmp_path / "quantized"
    shutil.copytree(quantized_checkpoint, made)
    config = json.loads((made / "config.json").read_text())
    del config["quantization_config"]["quantized_layers"]["thinker.model.layers.1.self_attn.o_proj"]
    (made / "config.json").write_text(json.dumps(config))
    (made / "preprocessor_config.json").unlink()
    tokens = {kind: {layer: (9,) * 8 for layer in layers} for kind, layers in record.expert_tokens.items()}
    tokens["image"]["thinker.model.layers.0.mlp.experts"] = (0, *(9,) * 7)
    save_record(replace(record, expert_tokens=tokens), tmp_path / "record")
    failing(assertions.assert_verified, made, record=tmp_path / "record", require=["faithful", "serves"], hide=[made])


def measured(mean, *, tokens=1234, conversations=12, top1=0.975):
    return Divergence(conversations, tokens, mean, mean / 14, mean, 9 * mean, 20 * mean, 40 * mean, top1)


def row(modality, numerics, mean, *, needed=90, **options):
    """A row as `parity` makes it: plain NVFP4 costs 0.0031, and the limit is a little above four times that."""
    found, plain = measured(mean, **options), measured(0.0031)
    limit = 0.021
    return Agreement(
        modality, numerics, found, plain, measured(0.001), measured(1e-6), 0.96, 0.98, 0.97, limit, needed,
        state(found, limit, needed),
    )  # fmt: skip


@pytest.fixture
def answering(monkeypatch):
    """Let `api.parity` find these rows and input ranges; models are not asked."""

    def pretend(*rows, ranges=()):
        findings = (*answer_findings(rows), *misfits(ranges))
        verdict = agrees(rows, findings)
        found = Parity("/models/original", "/models/packed", "cpu", {}, verdict, rows, ranges, findings=findings)
        monkeypatch.setattr(api, "parity", lambda *paths, **options: found)
        return found

    return pretend


def parity_fails(failing, **options):
    failing(assertions.assert_output_parity, "/models/original", "/models/packed", **options)


def test_parity_beyond_the_limits(failing, answering):
    answering(row("text", "w4a16", 0.004), row("image", "w4a16", 0.3), row("text", "w4a4", 0.0411))
    parity_fails(failing)


def test_parity_with_an_input_scale_in_another_unit(failing, answering):
    answering(row("text", "w4a4", 0.004), ranges=(InputRange(f"{SITE}".replace("qkv", "q"), 1200.0, 12.0),))
    parity_fails(failing)


def test_parity_with_a_scale_of_one_module_too_small(failing, answering):
    module, beside = (SITE.replace("qkv", part) for part in "qk")
    answering(row("text", "w4a4", 0.004), ranges=(InputRange(beside, 12.0, 12.0, module, 0.12),))
    parity_fails(failing)


def test_parity_of_a_checkpoint_that_computes_nan(failing, answering):
    answering(row("text", "w4a16", 0.004), row("code_predictor", "w4a16", math.inf, top1=0.25))
    parity_fails(failing)


def test_parity_of_too_few_tokens(failing, answering):
    answering(row("text", "w4a16", 0.004), row("audio", "w4a16", 0.004, tokens=30, needed=4321))
    parity_fails(failing)


def test_parity_of_one_conversation(failing, answering):
    answering(row("text", "w4a16", 0.004, conversations=1))
    parity_fails(failing)


def test_parity_beyond_a_mean_of_the_callers_own(failing, answering):
    answering(row("text", "w4a16", 0.004), row("image", "w4a16", 0.0123), row("image", "w4a4", 0.3))
    parity_fails(failing, max_mean_kl=0.01)


def test_parity_below_a_top_1_agreement_of_the_callers_own(failing, answering):
    answering(row("text", "w4a16", 0.004), row("talker", "w4a16", 0.005, top1=0.8612))
    parity_fails(failing, min_top1=0.9)


def test_parity_with_a_bound_that_is_none(failing):
    parity_fails(failing, min_top1=95)


RATES = (100.0, 101.0, 99.0, 100.5, 99.5)


def test_speedup_of_an_engine_that_unpacks(failing):
    slow = [0.97 * rate for rate in RATES]
    failing(assertions.assert_speedup, slow, RATES, at_least=1.2, what="decode at 8")


def test_speedup_of_rounds_that_are_spread_too_wide(failing):
    failing(assertions.assert_speedup, (120, 180, 130, 170, 150), RATES, at_least=1.4)


def test_speedup_of_too_few_rounds(failing):
    failing(assertions.assert_speedup, (200.0,), RATES, at_least=1.2)


def test_memory_of_weights_that_were_unpacked(failing):
    failing(assertions.assert_memory_ratio, 61 << 30, 62 << 30, at_least=2.5)


def test_a_strangers_name_is_written_out() -> None:
    """Control characters of a checkpoint's names would move the cursor of whoever reads the failure."""
    with pytest.raises(AssertionError) as caught:
        fail("assert_verified", "place", "1 error", ["\x1b[2Jname\nbreak\ud800: wrong"])
    assert str(caught.value) == "assert_verified: place: 1 error\n  \\x1b[2Jname\\nbreak\\ud800: wrong"
