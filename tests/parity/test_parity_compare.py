"""The whole comparison on fake engines: who is asked what, in which order, and what comes of it."""

import json
import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

pytestmark = pytest.mark.tiny

pytest.importorskip("scipy", reason="needs the quantize extra: pip install pytest-q3omni[quantize]")

from pytest_q3omni.engines.answers import Answer  # noqa: E402
from pytest_q3omni.engines.fake import FakeEngine, Scripted  # noqa: E402
from pytest_q3omni.errors import EngineError, InvalidRequest  # noqa: E402
from pytest_q3omni.omni.conversations import Conversation  # noqa: E402
from pytest_q3omni.parity.compare import Contestants, compare, compare_with, measure_reference  # noqa: E402
from pytest_q3omni.parity.divergence import divergence  # noqa: E402
from pytest_q3omni.parity.speech import MOST_SPOKEN  # noqa: E402
from pytest_q3omni.parity.verdict import MUTE  # noqa: E402
from pytest_q3omni.records import no_progress  # noqa: E402
from pytest_q3omni.schema import parity_from_json, parity_json  # noqa: E402

EACH, TOKENS, FRAMES, VOCABULARY, CODEBOOKS = 6, 8, 5, 12, (10, 6)
SITE = "thinker.model.layers.0.self_attn.o_proj"


def conversation(text, *media, answer=None):
    parts = ({"type": "text", "text": text}, *({"type": kind, kind: b""} for kind in media))
    last = () if answer is None else ({"role": "assistant", "content": ({"type": "text", "text": answer},)},)
    return Conversation(f"file:{text}", ({"role": "user", "content": parts}, *last))


def questions(each=EACH, modalities=("text", "image", "audio")):
    """So many conversations of each modality, each with a text of its own."""
    media = {"text": (), "image": ("image",), "audio": ("audio",), "both": ("image", "audio")}
    return [conversation(f"{name} {number}", *media[name]) for name in modalities for number in range(each)]


def log_softmax(logits):
    return (logits - np.log(np.exp(logits).sum(-1, keepdims=True))).astype(np.float32)


def script(asked, noise, seed=1, collapsed=()):
    """What a model says that thinks like the original, give or take `noise` in its logits.

    collapsed: questions to which it says the same whatever the token is.
    """
    random, mine = np.random.default_rng(99), np.random.default_rng(seed)
    said = {}
    for each in asked:
        text = each.messages[0]["content"][0]["text"]
        shapes = ((TOKENS, VOCABULARY), *((FRAMES, size) for size in CODEBOOKS))
        logits = [3 * random.normal(size=shape) for shape in shapes]
        likeliest = [values.argmax(-1) for values in logits]
        logits = [values + noise * mine.normal(size=values.shape) for values in logits]
        if text in collapsed:
            logits[0] = np.tile(np.eye(VOCABULARY)[0] * 9, (TOKENS, 1))
        answer = Answer(
            text, tuple(likeliest[0].tolist()), np.sin(np.arange(FRAMES * 1920)).astype(np.float32),
            np.stack(likeliest[1:]),
        )  # fmt: skip
        said[text] = Scripted(answer, log_softmax(logits[0]), tuple(map(log_softmax, logits[1:])))
    return said


@dataclass
class Stage:
    """Fakes that share a log. plain and quantized: numerics -> script."""

    asked: list
    quantized: dict
    plain: dict | None = None
    speaks: bool = True
    scales: dict = field(default_factory=dict)
    amax: dict = field(default_factory=dict)
    log: list = field(default_factory=list)
    given: list = field(default_factory=list)

    def engine(self, path, script, **options):
        return FakeEngine(path, script, log=self.log, **{"speaks": self.speaks, **options})

    def contestants(self):
        plain = self.plain or {name: script(self.asked, 0.1, seed=3) for name in ("w4a16", "w4a4")}

        def make(targets, spoken):
            self.given.append((targets, spoken))
            return self.engine("plain", plain, amax=self.amax)

        return Contestants(
            original=self.engine("original", {"bf16": script(self.asked, 0.0)}),
            repeat=self.engine("repeat", {"bf16": script(self.asked, 0.001, seed=2)}),
            plain=make,
            quantized={name: self.engine("quantized", {name: said}) for name, said in self.quantized.items()},
            input_scales=self.scales,
        )

    def compare(self, **options):
        return compare(self.contestants(), self.asked, **options)


def sound(asked, *numerics):
    return {name: script(asked, 0.1, seed=4 + number) for number, name in enumerate(numerics or ("w4a16", "w4a4"))}


def states(parity):
    return {(row.modality, row.numerics): row.state for row in parity.agreements}


def warnings(parity):
    return [finding.where for finding in parity.findings if finding.severity == "warning"]


# --- verdicts


def test_a_sound_checkpoint_agrees_in_every_row():
    asked = questions()
    found = Stage(asked, sound(asked)).compare(device="cpu (here)", versions={"torch": "2"})
    assert list(states(found)) == [
        (modality, numerics)
        for numerics in ("w4a16", "w4a4")
        for modality in ("text", "image", "audio", "talker", "code_predictor")
    ]
    assert set(states(found).values()) == {"pass"}
    assert (found.verdict.name, found.verdict.state, found.failed, found.findings) == ("agrees", "pass", False, ())
    assert (found.original, found.quantized) == ("original", "quantized")
    assert (found.device, found.versions) == ("cpu (here)", {"torch": "2"})
    assert [voice.numerics for voice in found.speech] == ["w4a16", "w4a4"]


def test_wrong_answers_of_one_modality_in_one_numerics_fail_there():
    asked = questions()
    quantized = sound(asked)
    quantized["w4a4"] = script(asked, 0.1, seed=5, collapsed=[f"image {number}" for number in range(EACH)])
    found = Stage(asked, quantized).compare()
    assert [row for row, state in states(found).items() if state == "fail"] == [("image", "w4a4")]
    assert found.failed
    (finding,) = found.findings
    assert finding.where == "image answers in W4A4"
    assert "the weights alone agree (W4A16)" in finding.fix


def test_wrong_speech_fails_though_the_text_is_right():
    asked = questions()
    quantized = sound(asked, "w4a16")
    for text, said in quantized["w4a16"].items():
        codes = tuple(values[:, ::-1].copy() for values in said.speech_logprobs)
        quantized["w4a16"][text] = replace(said, speech_logprobs=codes)
    found = Stage(asked, quantized).compare()
    failed = [row for row, state in states(found).items() if state == "fail"]
    assert failed == [("talker", "w4a16"), ("code_predictor", "w4a16")]
    assert [finding.where for finding in found.findings] == [
        "talker answers in W4A16",
        "code_predictor answers in W4A16",
    ]


def test_a_fault_in_the_first_codebook_does_not_drown_in_the_others():
    asked = questions()
    quantized = sound(asked, "w4a16")
    for text, said in quantized["w4a16"].items():
        first, *others = said.speech_logprobs
        quantized["w4a16"][text] = replace(said, speech_logprobs=(first[:, ::-1].copy(), *others))
    found = Stage(asked, quantized).compare()
    assert [row for row, state in states(found).items() if state == "fail"] == [("talker", "w4a16")]


def test_one_conversation_a_modality_is_not_checked():
    asked = questions(each=1)
    found = Stage(asked, sound(asked, "w4a16"), speaks=False).compare()
    assert states(found) == {(modality, "w4a16"): "not checked" for modality in ("text", "image", "audio")}
    assert found.verdict.state == "not checked"
    assert "text in W4A16 has 1 conversation, needs 2 conversations" in found.verdict.why
    assert warnings(found) == ["text answers in W4A16", "image answers in W4A16", "audio answers in W4A16"]


def test_two_conversations_that_disagree_on_what_packing_costs_are_too_few():
    asked = questions(each=2, modalities=("text",))
    plain = script(asked, 0.01, seed=3)
    plain["text 0"] = script(asked, 0.5, seed=3)["text 0"]
    found = Stage(asked, sound(asked, "w4a16"), plain={"w4a16": plain}, speaks=False).compare()
    (row,) = found.agreements
    assert (row.state, row.needed_tokens > row.divergence.tokens == 2 * TOKENS) == ("not checked", True)


def test_a_modality_that_nobody_asks_about_is_a_warning():
    asked = questions(modalities=("text", "image"))
    found = Stage(asked, sound(asked, "w4a16")).compare()
    assert warnings(found) == ["audio answers"]
    assert found.verdict.state == "pass"


def test_pictures_with_sound_count_under_both_and_are_not_spoken_to():
    asked = questions(modalities=("both",))
    found = Stage(asked, sound(asked, "w4a16")).compare()
    assert list(states(found)) == [("image", "w4a16"), ("audio", "w4a16")]
    assert warnings(found) == ["text answers", "speech answers"]
    assert found.verdict.why.endswith("; not compared: text, speech")


def unreached(asked, *modalities):
    """Plain NVFP4 that says of these exactly what the original says, in speech."""
    plain, original = script(asked, 0.1, seed=3), script(asked, 0.0)
    for text in plain:
        if text.split()[0] in modalities:
            plain[text] = replace(plain[text], speech_logprobs=original[text].speech_logprobs)
    return {"w4a16": plain}


def test_where_nothing_packed_reaches_speech_there_is_no_row_and_one_warning():
    asked = questions()
    quantized = sound(asked, "w4a16")
    found = Stage(asked, quantized, plain=unreached(asked, "text", "image", "audio")).compare()
    assert list(states(found)) == [(modality, "w4a16") for modality in ("text", "image", "audio")]
    (finding,) = found.findings
    assert (finding.severity, finding.where) == ("warning", "speech answers")
    assert finding.found == "none is spoken that what is packed could change"
    assert (found.verdict.state, found.failed) == ("pass", False)
    assert found.verdict.why.endswith("; not compared: speech")
    (voice,) = found.speech
    assert len(voice.samples) > 0, "it is shown all the same"


def test_spoken_answers_that_nothing_packed_reaches_are_not_counted():
    asked = questions(each=2)
    found = Stage(asked, sound(asked, "w4a16"), plain=unreached(asked, "text")).compare()
    counts = {row.modality: row.divergence.conversations for row in found.agreements}
    assert (counts["talker"], counts["code_predictor"]) == (4, 4)
    assert {codebook.conversations for codebook in found.speech[0].codebooks} == {6}


def test_a_thinker_alone_has_no_row_of_speech():
    asked = questions()
    stage = Stage(asked, sound(asked), speaks=False)
    found = stage.compare()
    assert {row.modality for row in found.agreements} == {"text", "image", "audio"}
    assert (found.speech, found.findings, found.verdict.state) == ((), (), "pass")
    assert not {call.what for call in stage.log} & {"speak", "speech_logprobs"}


@pytest.mark.parametrize("mute", [("w4a16", "w4a4"), ("w4a4",)])
def test_a_checkpoint_that_lost_its_voice_is_warned_of_and_its_text_is_compared(mute):
    asked = questions()
    stage = Stage(asked, sound(asked))
    contestants = stage.contestants()
    for numerics in mute:
        contestants.quantized[numerics].speaks = False
    found = compare(contestants, asked)
    assert found.findings == (MUTE,)
    assert (MUTE.severity, MUTE.where) == ("warning", "speech answers")
    assert {row.modality for row in found.agreements} == {"text", "image", "audio"}
    assert (found.speech, found.verdict.state) == ((), "pass")
    assert found.verdict.why.endswith("; not compared: speech")
    assert not {call.what for call in stage.log} & {"speak", "speech_logprobs"}


def test_an_original_that_does_not_speak_is_no_voice_that_was_lost():
    asked = questions()
    contestants = Stage(asked, sound(asked)).contestants()
    contestants.original.speaks = False
    assert compare(contestants, asked).findings == ()


def test_an_unpacked_checkpoint_may_differ_as_bf16_differs_from_itself():
    asked = questions()
    same = Stage(asked, {"bf16": script(asked, 0.001, seed=7)})
    found = same.compare()
    assert set(states(found).values()) == {"pass"}
    assert all(row.plain == row.repeat for row in found.agreements)
    assert same.given == [], "nothing is packed, and no plain NVFP4 is made"
    packed = Stage(asked, {"bf16": script(asked, 0.1, seed=7)}).compare()
    assert set(states(packed).values()) == {"fail"}, "what NVFP4 may cost, an unpacked one may not"
    assert "nothing is packed here" in packed.findings[0].expected


def computes_nan(scripts, text):
    """One numerics of a model that computes NaN for this question."""
    said = scripts["w4a16"][text]
    scripts["w4a16"][text] = replace(said, logprobs=np.full_like(said.logprobs, math.nan))
    return scripts


@pytest.mark.parametrize("each", [1, EACH])
def test_a_checkpoint_that_computes_nan_fails(each):
    asked = questions(each)
    found = Stage(asked, computes_nan(sound(asked, "w4a16"), "text 0"), speaks=False).compare()
    assert [row for row, state in states(found).items() if state == "fail"] == [("text", "w4a16")]
    row = found.agreements[0]
    assert (row.divergence.mean, row.divergence.error, row.apart.mean) == (math.inf,) * 3
    assert (found.failed, found.verdict.state) == (True, "fail")
    assert found.findings[0].found.startswith("mean KL inf ± inf nats")
    back = parity_from_json(json.loads(json.dumps(parity_json(found), allow_nan=False)))
    assert back == found


def test_plain_nvfp4_that_computes_nan_is_an_error():
    asked = questions()
    plain = computes_nan({"w4a16": script(asked, 0.1, seed=3)}, "image 3")
    with pytest.raises(EngineError, match=r"^image answers in W4A16: plain NVFP4 of the original computes NaN"):
        Stage(asked, sound(asked, "w4a16"), plain=plain).compare()


def test_a_checkpoint_with_another_vocabulary_is_an_error():
    asked = questions()
    quantized = sound(asked, "w4a16")
    for text, said in quantized["w4a16"].items():
        quantized["w4a16"][text] = replace(said, logprobs=said.logprobs[:, :-1])
    with pytest.raises(EngineError, match="11 entries in the vocabulary; expected 12, as in the original"):
        Stage(asked, quantized).compare()


# --- numbers


def test_every_row_is_measured_against_plain_nvfp4_in_its_own_numerics():
    asked = questions(modalities=("text",))
    scripts = {"original": script(asked, 0.0), "repeat": script(asked, 0.001, seed=2)}
    plain = {"w4a16": script(asked, 0.1, seed=3), "w4a4": script(asked, 0.3, seed=3)}
    quantized = sound(asked)
    found = Stage(asked, quantized, plain=plain).compare()

    def values(said):
        return [each.logprobs for each in said.values()]

    for row in found.agreements:
        if row.modality == "text":
            mine, theirs = values(scripts["original"]), values(quantized[row.numerics])
            assert row.divergence == divergence(mine, theirs)
            assert row.plain == divergence(mine, values(plain[row.numerics]))
            assert row.apart == divergence(values(plain[row.numerics]), theirs)
            assert row.repeat == divergence(mine, values(scripts["repeat"]))
    limits = {row.numerics: row.limit for row in found.agreements if row.modality == "text"}
    assert limits["w4a4"] > 4 * limits["w4a16"]


def test_accuracies_are_of_the_three_models():
    asked = questions(modalities=("text",))
    plain = {"w4a16": script(asked, 0.001, seed=3, collapsed=["text 0"])}
    quantized = {"w4a16": script(asked, 0.001, seed=4, collapsed=["text 0", "text 1", "text 2"])}
    row = Stage(asked, quantized, plain=plain).compare().agreements[0]
    assert (row.original_accuracy, row.plain_accuracy, row.accuracy) == (1.0, 5 / 6, 3 / 6)


def test_speech_is_over_the_codebooks_of_the_answers_that_are_spoken():
    asked = questions(each=4)  # as many as are spoken
    quantized = sound(asked, "w4a16")
    found = Stage(asked, quantized).compare()
    talker, predictor = found.agreements[-2:]
    assert (talker.modality, predictor.modality) == ("talker", "code_predictor")
    for row in (talker, predictor):
        assert row.divergence.conversations == MOST_SPOKEN
        assert row.divergence.tokens == MOST_SPOKEN * FRAMES, "of one codebook each"
        assert row.original_accuracy == 1.0
    (voice,) = found.speech
    assert [each.tokens for each in voice.codebooks] == [MOST_SPOKEN * FRAMES] * len(CODEBOOKS)
    spoken = [f"{name} {number}" for number in range(4) for name in ("image", "audio")]
    spoken += [f"text {number}" for number in range(4)]
    mine, theirs = script(asked, 0.0), quantized["w4a16"]
    for number, codebook in enumerate(voice.codebooks):
        sides = ([said[text].speech_logprobs[number] for text in spoken] for said in (mine, theirs))
        assert codebook == divergence(*sides)
    assert [sample.modality for sample in voice.samples] == ["text", "image", "audio"]
    assert {sample.equal_codes for sample in voice.samples} == {1.0}


def test_a_vocoder_that_sounds_unlike_fails_though_every_code_agrees():
    asked = questions()
    quantized = sound(asked, "w4a16")
    said = quantized["w4a16"]["image 0"]
    louder = replace(said.answer, waveform=said.answer.waveform * np.float32(1.5))
    quantized["w4a16"]["image 0"] = replace(said, answer=louder)
    found = Stage(asked, quantized).compare()
    assert set(states(found).values()) == {"pass"}
    (finding,) = found.findings
    assert (found.verdict.state, finding.where) == ("fail", "speech in W4A16, file:image 0")
    assert "6.0 dB" in finding.found, "the difference is half as loud"


@pytest.mark.parametrize(("loud", "state"), [(1.0, "pass"), (1.5, "fail")])
def test_a_vocoder_is_heard_with_the_originals_codes_though_it_says_others(loud, state):
    asked = questions()
    quantized = sound(asked, "w4a16")
    for text, said in quantized["w4a16"].items():
        other = replace(said.answer, codes=said.answer.codes[:, ::-1].copy(), waveform=-said.answer.waveform)
        quantized["w4a16"][text] = replace(said, answer=other)
    stage = Stage(asked, quantized)
    contestants = stage.contestants()
    wave = script(asked, 0.0)["text 0"].answer.waveform * np.float32(loud)
    engine = stage.engine("quantized", {"w4a16": quantized["w4a16"]}, vocoder=lambda codes: wave)
    found = compare(replace(contestants, quantized={"w4a16": engine}), asked)
    assert found.verdict.state == state
    assert {finding.check for finding in found.findings} == ({"waveforms"} if state == "fail" else set())


def test_a_wrong_input_scale_fails_though_every_answer_agrees():
    asked = questions()
    scales, amax = {SITE: 100 * 2.0 / 2688}, {SITE: 2.0}
    found = Stage(asked, sound(asked), scales=scales, amax=amax).compare()
    assert set(states(found).values()) == {"pass"}
    assert (found.verdict.state, found.findings[0].where) == ("fail", f"{SITE}.input_scale")
    assert [(each.module, each.seen) for each in found.inputs] == [(SITE, 2.0)]


@pytest.mark.parametrize(("modalities", "severity"), [(("text", "image", "audio"), "error"), (("text",), "warning")])
def test_a_scale_too_large_is_an_error_where_every_modality_was_asked(modalities, severity):
    asked = questions(modalities=modalities)
    scales, amax = {SITE: 100 * 2.0 / 2688}, {SITE: 2.0}
    found = Stage(asked, sound(asked), scales=scales, amax=amax).compare()
    assert [each.severity for each in found.findings if each.check == "input-ranges"] == [severity]
    assert found.failed == (severity == "error")


def test_where_only_weights_are_rounded_no_input_scale_is_judged():
    """The reference may have seen the inputs all the same, for another comparison."""
    asked = questions()
    scales, amax = {SITE: 100 * 2.0 / 2688}, {SITE: 2.0}
    both = Stage(asked, sound(asked), scales=scales, amax=amax).contestants()
    reference = measure_reference(both, asked, no_progress)
    assert reference.seen == amax
    assert compare_with(reference, both).inputs != ()
    weights_only = replace(both, quantized={"w4a16": both.quantized["w4a16"]})
    found = compare_with(reference, weights_only)
    assert (found.inputs, found.verdict.state) == ((), "pass")


# --- who is asked, and when


def test_engines_open_one_after_the_other_and_never_two_at_once():
    asked = questions()
    stage = Stage(asked, sound(asked))
    stage.compare()
    open_now, order = [], []
    for call in stage.log:
        if call.what == "open":
            assert open_now == [], call
            open_now.append(call.path)
            order.append((call.path, call.numerics))
        elif call.what == "close":
            open_now.remove(call.path)
        else:
            assert open_now == [call.path]
    assert open_now == []
    assert order == [
        ("original", "bf16"),
        ("repeat", "bf16"),
        ("plain", "w4a16"),  # and it stays open for w4a4: making it takes a calibration
        ("quantized", "w4a16"),
        ("quantized", "w4a4"),
    ]


def test_every_engine_is_asked_every_question_in_every_numerics_once():
    asked = questions()
    spoken = min(MOST_SPOKEN, len(asked))
    stage = Stage(asked, sound(asked))
    stage.compare()
    sides = [("original", "bf16"), ("repeat", "bf16")]
    sides += [(path, numerics) for path in ("plain", "quantized") for numerics in ("w4a16", "w4a4")]
    for side in sides:
        mine = [call for call in stage.log if (call.path, call.numerics) == side]
        texts = [call.question for call in mine if call.what == "logprobs"]
        assert sorted(texts) == sorted(each.messages[0]["content"][0]["text"] for each in asked), side
        assert sum(call.what == "speech_logprobs" for call in mine) == spoken, side


def test_plain_nvfp4_is_calibrated_on_what_is_asked():
    asked = [*questions(modalities=("text",)), *(conversation(f"mine {number}", answer="so") for number in range(2))]
    stage = Stage(asked, sound(asked, "w4a16"))
    stage.compare()
    ((targets, spoken),) = stage.given
    assert [target.conversation.id for target in targets] == [each.id for each in asked]
    assert [len(target.tokens) for target in targets] == [TOKENS] * 8
    assert [each.target for each in spoken] == targets


@pytest.mark.parametrize("name", ["original", "repeat", "plain", "quantized"])
def test_an_engine_is_closed_when_it_fails_in_the_middle(name):
    asked = questions()
    stage = Stage(asked, sound(asked, "w4a16"))
    contestants = stage.contestants()
    broken = {"w4a16" if name in ("plain", "quantized") else "bf16": {}}
    engine = stage.engine(name, broken)
    options = {"original": engine, "repeat": engine, "plain": lambda *_: engine, "quantized": {"w4a16": engine}}
    with pytest.raises(InvalidRequest, match="nothing is scripted"):
        compare(replace(contestants, **{name: options[name]}), asked)
    whats = [call.what for call in stage.log if call.path == name]
    assert (whats[0], whats[-1], whats.count("close")) == ("open", "close", 1)
    assert stage.log[-1] == (name, next(iter(broken)), "close", "")


def test_progress_names_each_engine_and_comes_to_its_end():
    asked = questions(each=2)
    told: dict[str, list[tuple[int, int]]] = {}
    Stage(asked, sound(asked)).compare(progress=lambda what, *step: told.setdefault(what, []).append(step))
    names = ("BF16", "BF16 again", "plain W4A16", "plain W4A4", "W4A16", "W4A4")
    assert told.keys() == {"questions", "speech", *names, *(f"{name} speech" for name in names)}
    assert all(steps[0][0] == 0 and steps[-1][0] == steps[-1][1] == 6 for steps in told.values())
