"""What failures say, compared with reviewed texts in `snapshots/`: module, number, bound, remedy.

Run with Q3OMNI_UPDATE_SNAPSHOTS=1 to write them anew, and review the difference.
"""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_q3omni import api, assertions
from pytest_q3omni.omni.tiny import record_path
from pytest_q3omni.records import SampleFailure

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
