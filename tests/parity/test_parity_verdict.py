"""What the rows of a comparison come to: texts that name modality, number, bound and remedy, and one verdict."""

import math
from dataclasses import replace

import pytest

from pytest_q3omni.parity.speech import MOST_SPOKEN
from pytest_q3omni.parity.verdict import (
    LEAST_SNR,
    MUTE,
    agrees,
    answer_findings,
    asks_all,
    sound_findings,
    unasked,
    with_parity,
)
from pytest_q3omni.records import (
    Agreement,
    Divergence,
    Facts,
    Finding,
    Judgement,
    Parity,
    SpeechAgreement,
    SpeechSample,
    Verdict,
)

pytestmark = pytest.mark.tiny

SPEAK = f"add conversations with a picture or sound and longer answers: {MOST_SPOKEN} are spoken, in turn"


def some(mean, *, tokens=120, conversations=12, error=0.0004, top1=0.975):
    return Divergence(conversations, tokens, mean, error, mean, mean, mean, mean, top1)


def row(modality="text", numerics="w4a16", state="pass", mean=0.004, limit=0.02, needed=50, **options):
    found = some(mean, **options)
    return Agreement(
        modality, numerics, found, some(0.003), some(0.001), some(1e-6), 1.0, 1.0, 1.0, limit, needed, state
    )


def test_rows_that_pass_have_nothing_to_say():
    assert list(answer_findings([row(), row("image", "w4a4")])) == []


def test_a_row_beyond_its_limit_says_by_how_much_and_what_the_limit_is_made_of():
    (finding,) = answer_findings([row("image", state="fail", mean=0.1234)])
    assert str(finding) == (
        "image answers in W4A16: mean KL 0.1234 ± 0.0004 nats over 120 tokens, top-1 agreement 97.5%; expected at most "
        "0.02, 4 times what plain NVFP4 of the same layers costs (0.003, and its uncertainty). Fix: `q3omni verify "
        "QUANTIZED --source ORIGINAL` names the tensors that are not what packing gives  [answers, error]"
    )


def test_inputs_are_to_blame_only_where_the_weights_agree():
    sound, wrong = row(), row(numerics="w4a4", state="fail")
    (finding,) = answer_findings([sound, wrong])
    assert finding.fix.startswith("the weights alone agree (W4A16), so look at the input scales")
    for weights in (
        replace(sound, state="fail"),
        replace(sound, state="not checked"),
        replace(sound, modality="audio"),
    ):
        fixes = [each.fix for each in answer_findings([weights, wrong]) if each.where == "text answers in W4A4"]
        assert ["--source ORIGINAL" in fix for fix in fixes] == [True]


def test_an_unpacked_checkpoint_is_told_that_nothing_is_packed():
    (finding,) = answer_findings([row(numerics="bf16", state="fail", limit=1e-5)])
    assert finding.expected == "at most 1e-05, 4 times what BF16 differs from itself by: nothing is packed here"


@pytest.mark.parametrize(
    ("modality", "fix"),
    [
        ("text", "add conversations of text alone"),
        ("image", "add conversations with image"),
        ("audio", "add conversations with audio"),
        ("talker", SPEAK),
        ("code_predictor", SPEAK),
    ],
)
def test_too_few_tokens_are_a_warning_that_says_how_many_are_needed(modality, fix):
    (finding,) = answer_findings([row(modality, "w4a4", "not checked", needed=4321, limit=math.inf)])
    assert (finding.severity, finding.where) == ("warning", f"{modality} answers in W4A4")
    assert finding.found == "120 answer tokens"
    assert finding.expected == "4,321 answer tokens or more, for a limit that means something"
    assert finding.fix == fix


def test_one_conversation_is_never_told_that_it_has_enough():
    (finding,) = answer_findings([row(state="not checked", needed=0, conversations=1)])
    assert finding.found == "1 conversation"
    assert finding.expected == "2 conversations or more, for a limit that means something"


def test_modalities_that_nobody_asked_about_are_warnings():
    found = list(unasked([row("image")], speaks=True))
    assert [each.where for each in found] == ["text answers", "audio answers", "speech answers"]
    assert {each.severity for each in found} == {"warning"}
    assert [each.fix for each in found] == [
        "add conversations of text alone",
        "add conversations with audio",
        "add conversations with a picture or with sound, not with both",
    ]
    assert found[-1].found == "none is spoken that what is packed could change"
    assert list(unasked([row("text"), row("image"), row("audio")], speaks=False)) == []


@pytest.mark.parametrize("stage", ["talker", "code_predictor"])
def test_either_row_of_speech_will_do(stage):
    asked = [row("text"), row("image"), row("audio")]
    assert [each.where for each in unasked(asked, speaks=True)] == ["speech answers"]
    assert list(unasked([*asked, row(stage)], speaks=True)) == []


def test_whether_every_modality_was_asked():
    asked = [row("text"), row("image"), row("audio")]
    assert asks_all(asked)
    assert asks_all([*asked, row("talker")])
    assert not any(asks_all([*asked[:number], *asked[number + 1 :], row("talker")]) for number in range(3))


def voice(vocoder_snr, numerics="w4a16", *, equal_codes=1.0, snr=40.0):
    sample = SpeechSample("file:3", "text", ("AB", "AB"), (7, 7), equal_codes, snr, vocoder_snr)
    return SpeechAgreement(numerics, (), (sample,))


def test_the_originals_codes_that_sound_unlike_are_the_vocoders_fault():
    (finding,) = sound_findings([voice(40.0), voice(12.34, "w4a4"), voice(None)])
    assert str(finding) == (
        "speech in W4A4, file:3: from the same codes, 12.3 dB between the two waveforms; expected 20 dB or more. Fix: "
        "take code2wav's tensors from the original: no engine runs it packed  [waveforms, error]"
    )
    assert list(sound_findings([voice(LEAST_SNR)])) == []


def test_what_is_freely_spoken_may_sound_unlike_and_excuses_nothing():
    assert list(sound_findings([voice(40.0, equal_codes=1.0, snr=-3.0)])) == []
    assert list(sound_findings([voice(None, equal_codes=0.2, snr=-3.0)])) == []
    (finding,) = sound_findings([voice(-3.0, equal_codes=0.2, snr=40.0)])
    assert "-3.0 dB" in finding.found


# --- the verdict


def verdict(*rows, findings=None):
    return agrees(rows, list(answer_findings(rows)) if findings is None else findings)


def test_it_passes_where_every_row_does_and_names_the_nearest():
    found = verdict(row(), row("audio", "w4a4", mean=0.009, limit=0.01), row("image", mean=0.01, limit=1.0))
    assert found == Verdict(
        "agrees", "pass",
        "text, audio, image in W4A16 and W4A4; nearest to its limit: audio in W4A4, 0.009 of at most 0.01",
    )  # fmt: skip


def test_rows_without_any_difference_pass_without_a_division():
    assert verdict(row(mean=0.0, limit=0.0)).state == "pass"
    found = verdict(row(mean=0.0, limit=0.0), row("audio", mean=0.01, limit=0.02))
    assert found.why.endswith("nearest to its limit: audio in W4A16, 0.01 of at most 0.02")


def test_an_error_of_any_kind_fails():
    found = verdict(row(), row("image", state="fail", mean=0.5), row("audio", state="not checked"))
    assert found.state == "fail"
    assert found.why.startswith("1 error, first image answers in W4A16: mean KL 0.5 ")
    scale = Finding("input-ranges", "error", "a.input_scale", "holds inputs up to 100", "less", "calibrate")
    assert verdict(row(), findings=[scale, scale]).why == "2 errors, first a.input_scale: holds inputs up to 100"


def test_too_few_tokens_are_no_pass():
    found = verdict(row(), row("image", "w4a4", "not checked", needed=4321))
    assert found == Verdict(
        "agrees", "not checked", "image in W4A4 has 120 answer tokens, needs 4,321 answer tokens or more"
    )


def test_one_conversation_is_no_pass_either():
    found = verdict(row(state="not checked", needed=0, conversations=1))
    assert found == Verdict("agrees", "not checked", "text in W4A16 has 1 conversation, needs 2 conversations or more")


def test_a_pass_names_what_was_not_compared():
    rows = [row()]
    found = agrees(rows, list(unasked(rows, speaks=True)))
    assert found.state == "pass"
    assert found.why.endswith(", 0.004 of at most 0.02; not compared: image, audio, speech")
    assert agrees(rows, [MUTE]).why.endswith("; not compared: speech")
    scale = Finding("input-ranges", "warning", "a.input_scale", "holds inputs up to 100", "less", "calibrate")
    assert "not compared" not in agrees(rows, [scale]).why


def test_a_row_of_nan_fails_and_says_so():
    broken = row("talker", state="fail", mean=math.inf, error=math.inf, top1=0.25)
    (finding,) = answer_findings([broken])
    assert finding.found == "mean KL inf ± inf nats over 120 tokens, top-1 agreement 25.0%"
    assert verdict(broken).why.startswith("1 error, first talker answers in W4A16: mean KL inf ")


def test_a_judgement_takes_over_what_the_answers_said():
    verdicts = (
        Verdict("packed", "pass", ""),
        Verdict("agrees", "not checked", "needs both"),
        Verdict("serves", "pass", ""),
    )
    warning = Finding("coverage", "warning", "a", "0 tokens", "1", "add")
    judgement = Judgement("here", verdicts, (warning,), Facts(1, 1, 8.0, 1.0, 1.0, 0.0, 0.0, {}))
    error = Finding("answers", "error", "text answers in W4A16", "far", "near", "pack")
    answer = Verdict("agrees", "fail", "1 error")
    found = with_parity(judgement, Parity("there", "here", "cpu", {}, answer, (), findings=(error,)))
    assert [each.name for each in found.verdicts] == ["packed", "agrees", "serves"]
    assert found.verdict("agrees") is answer
    assert found.findings == (error, warning), "errors first"
    assert found.failed
