"""Parity of the tiny model: a sound checkpoint agrees in every row, and W4A4 is ModelOpt's fake quantization."""

import pytest

pytestmark = pytest.mark.tiny

_REASON = "needs the quantize extra: pip install pytest-q3omni[quantize]"
torch = pytest.importorskip("torch", reason=_REASON)
pytest.importorskip("transformers", reason=_REASON)
pytest.importorskip("modelopt", reason=_REASON)
np = pytest.importorskip("numpy")

from parity_runs import conversations, quantized_as  # noqa: E402

from pytest_q3omni.engines import packed  # noqa: E402
from pytest_q3omni.engines.handle import ModelHandle  # noqa: E402
from pytest_q3omni.parity.divergence import divergence, upper_bound  # noqa: E402
from pytest_q3omni.parity.logits import ask  # noqa: E402
from pytest_q3omni.records import no_progress  # noqa: E402

MODALITIES = ("text", "image", "audio", "talker", "code_predictor")
ROWS = [(modality, numerics) for numerics in ("w4a16", "w4a4") for modality in MODALITIES]


def test_a_sound_checkpoint_agrees_in_every_row(sound_parity):
    assert [(row.modality, row.numerics) for row in sound_parity.agreements] == ROWS
    assert {row.state for row in sound_parity.agreements} == {"pass"}
    assert sound_parity.verdict.state == "pass"
    assert not sound_parity.findings


def test_every_answer_of_the_tiny_model_is_right_in_all_numerics(sound_parity):
    for row in sound_parity.agreements:
        assert (row.accuracy, row.plain_accuracy, row.original_accuracy) == (1.0, 1.0, 1.0), row


def test_activations_cost_more_than_weights_and_both_more_than_bf16s_own_noise(sound_parity):
    rows = {(row.modality, row.numerics): row for row in sound_parity.agreements}
    for modality in ("text", "image", "audio"):
        weights, both = rows[modality, "w4a16"], rows[modality, "w4a4"]
        assert weights.repeat.mean < weights.divergence.mean / 10
        assert weights.divergence.mean < both.divergence.mean


def test_the_weights_of_the_file_are_plain_nvfp4(sound_parity):
    # What is left is the last bit of ModelOpt's global scale: of the order of BF16 computed in another order.
    for row in sound_parity.agreements:
        if row.numerics == "w4a16":
            assert row.apart.mean < 10 * row.repeat.mean


def test_it_speaks_the_same_codes_and_the_same_sound(sound_parity):
    for speech in sound_parity.speech:
        assert len(speech.codebooks) == 4
        assert [sample.modality for sample in speech.samples] == ["image", "audio"], "where packing the thinker shows"
        assert all(sample.equal_codes == 1.0 and sample.snr is sample.vocoder_snr is None for sample in speech.samples)
        assert speech.spectrograms["original"] == speech.spectrograms["quantized"]
        loudest = max(map(max, speech.spectrograms["original"]))
        assert loudest > -40, "decibels of full scale: something is heard"


def test_ranges_of_the_file_hold_what_is_seen(sound_parity):
    assert len(sound_parity.inputs) == 8, "two layers: qkv, o, gate_up, down"
    for each in sound_parity.inputs:
        assert each.holds == pytest.approx(each.seen, rel=1e-6), "calibrated on the same conversations"


def test_w4a4_is_modelopts_fake_quantization_within_its_own_rounding(sound, reference, monkeypatch):
    """The bound is derived in this run: how far W4A4 is from itself with every input scale one unit in the last place
    away. Input scales that are 10 % off are beyond it, so the file's are what they should be. (Twice a scale gives the
    same numbers: block scales halve, which E4M3 does exactly as long as they stay in its range.)
    """
    given = packed.input_scales

    def answers(change):
        monkeypatch.setattr(packed, "input_scales", lambda *of: {name: change(s) for name, s in given(*of).items()})
        handle = ModelHandle(sound, numerics="w4a4", device="cpu")
        try:
            return ask(handle, reference.targets, "", no_progress)
        finally:
            handle.close()

    def one_unit_up(scale):
        return float(np.nextafter(np.float32(scale), np.float32(np.inf)))

    ours, theirs = answers(lambda scale: scale), reference.plain["w4a4"].text
    bound = upper_bound(divergence(ours, answers(one_unit_up)))
    assert divergence(theirs, ours).mean <= bound
    assert divergence(theirs, answers(lambda scale: 1.1 * scale)).mean > bound
    assert divergence(ours, answers(lambda scale: 2 * scale)).largest == 0


def test_a_control_that_packs_nothing_is_judged_by_bf16s_own_noise(tmp_path):
    found = quantized_as("bf16", tmp_path, conversations()[:12])
    assert [row.numerics for row in found.agreements] == ["bf16"] * 5
    assert found.verdict.state == "pass"
    assert {row.divergence.largest for row in found.agreements} == {0.0}


def test_weight_only_has_one_numerics_and_no_input_ranges(tmp_path):
    found = quantized_as("nvfp4-mlp-weight-only", tmp_path, conversations())
    assert {row.numerics for row in found.agreements} == {"w4a16"}
    assert found.inputs == ()
    assert found.verdict.state == "pass"
