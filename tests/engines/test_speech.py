"""Forced speech: transformers' own generation, with every choice made for it, equals plain teacher forcing."""

import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.tiny

_REASON = "needs the quantize extra: pip install pytest-q3omni[quantize]"
torch = pytest.importorskip("torch", reason=_REASON)
pytest.importorskip("transformers", reason=_REASON)
np = pytest.importorskip("numpy")

sys.path.insert(0, str(Path(__file__).parents[1] / "tiny"))  # the tiny model's training code is the oracle

from recipe import speech as recipe  # noqa: E402
from recipe.batches import Batch  # noqa: E402
from recipe.task import speech_codes  # noqa: E402

from pytest_q3omni.engines import handle as handles  # noqa: E402
from pytest_q3omni.engines.answers import _appended, question  # noqa: E402
from pytest_q3omni.engines.handle import ModelHandle  # noqa: E402
from pytest_q3omni.engines.speech import check_speech, speech_logprobs  # noqa: E402
from pytest_q3omni.engines.transformers import conversation_inputs  # noqa: E402
from pytest_q3omni.errors import EngineError, InvalidRequest, NotChatML  # noqa: E402
from pytest_q3omni.omni.conversations import load_conversations  # noqa: E402
from pytest_q3omni.omni.tiny import conversations_path  # noqa: E402

MODALITIES = ("text", "image", "audio")
NUMERICS = ("bf16", "w4a16", "w4a4")
BF16_KL = 1e-3
"""Nats per code between two orders of the same BF16 sums (with a cache or without); measured: 1e-4."""


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


OPENED: dict[str, ModelHandle] = {}


@pytest.fixture(scope="module", autouse=True)
def closed_afterwards():
    yield
    for handle in OPENED.values():
        handle.close()
    OPENED.clear()


@pytest.fixture
def opened(original_checkpoint, quantized_checkpoint):
    """A handle in these numerics; one for the whole module, since loading costs most."""

    def one(numerics):
        path = original_checkpoint if numerics == "bf16" else quantized_checkpoint
        return OPENED.setdefault(numerics, ModelHandle(path, numerics=numerics, device="cpu"))

    return one


def conversations():
    return [each for each in load_conversations(conversations_path()) if each.answered]


def about(modality):
    """A conversation with this modality and no other, text aside."""
    return next(each for each in conversations() if each.modalities == {"text", modality})


def mixed():
    return next(each for each in conversations() if {"image", "audio"} <= each.modalities)


def some_codes(frames=6, seed=7):
    """Codes that no model would choose."""
    return np.random.default_rng(seed).integers(64, size=(4, frames))


def kl(mine, theirs):
    """The largest KL of any step, in nats."""
    return float((np.exp(mine) * (mine - theirs)).sum(-1).max())


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("numerics", NUMERICS)
def test_its_own_greedy_codes_are_the_most_likely(opened, numerics, modality):
    handle, asked = opened(numerics), about(modality)
    spoken = handle.generate(asked, speech=True)
    found = handle.speech_logprobs(asked, spoken.tokens, spoken.codes)
    assert np.array_equal(found.codes, spoken.codes)
    assert [values.argmax(-1).tolist() for values in found.values] == spoken.codes.tolist()


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("numerics", NUMERICS)
def test_it_equals_teacher_forcing_without_generation(opened, numerics, modality, monkeypatch):
    """The oracle builds the talker's input itself, and runs talker and code predictor once over all frames."""
    handle, asked, codes = opened(numerics), about(modality), some_codes()
    tokens = handle.processor.tokenizer("XX").input_ids
    codes[0, :2] = speech_codes(tokens, modality)[:2, 0]  # one likely code twice: a repetition penalty would show here
    monkeypatch.setattr(recipe, "speech_codes", lambda token_ids, kind: codes.T)
    with handle.loaded(speech=True) as model, torch.inference_mode():
        end = model.config.im_end_token_id
        inputs = _appended(conversation_inputs(handle.processor, question(asked)), [*tokens, end])
        batch = Batch(modality, inputs, len(tokens) + 1)
        states = model.thinker(**inputs, output_hidden_states=True, use_cache=False).hidden_states
        accepted = states[model.config.talker_config.accept_hidden_layer]
        speech = recipe.make_speech(model, batch, torch.tensor([tokens]), states[0], accepted)
        first, others = recipe.talker_logits(model, batch, speech)
    oracle = [first[0, :-1], *others[0, :-1].unbind(1)]  # the last step ends the speech
    found = handle.speech_logprobs(asked, [*tokens, end], codes)
    assert len(found.values) == len(oracle)
    for logits, values in zip(oracle, found.values, strict=True):
        assert values.dtype == np.float32
        assert values.shape == tuple(logits.shape)
        assert kl(logits.float().log_softmax(-1).numpy(), values) < BF16_KL


def test_values_are_whole_distributions(opened):
    """The ids that `generate` suppresses (the last 1024, but for the end) are among them."""
    handle = opened("bf16")
    found = handle.speech_logprobs(about("text"), [38, 48, 431], some_codes())
    assert [values.shape for values in found.values] == [(6, 1088), (6, 64), (6, 64), (6, 64)]
    for values in found.values:
        assert np.isfinite(values).all()
        assert np.exp(values).sum(-1) == pytest.approx(1, abs=1e-5)


def test_values_depend_on_the_codes_before_them(opened):
    handle, codes = opened("bf16"), some_codes()
    changed = codes.copy()
    changed[0, 2] = (codes[0, 2] + 1) % 64
    before, after = (handle.speech_logprobs(about("text"), [38, 48, 431], each).values for each in (codes, changed))
    assert np.array_equal(before[0][:3], after[0][:3]), "frame 2 is heard from frame 3 on"
    assert not np.array_equal(before[0][3], after[0][3])
    for book in (1, 2, 3):
        assert np.array_equal(before[book][:2], after[book][:2])
        assert not np.array_equal(before[book][2], after[book][2]), "the others follow the first"


def test_values_depend_on_the_text(opened):
    handle, codes = opened("bf16"), some_codes()
    one, other = (handle.speech_logprobs(about("text"), [*text, 431], codes).values for text in ([38, 48], [38, 49]))
    assert np.array_equal(one[0][0], other[0][0]), "the first frame speaks the first token"
    assert not np.array_equal(one[0][1], other[0][1])


@pytest.mark.parametrize(("modality", "heard"), [("text", False), ("audio", True), ("image", True)])
def test_packing_the_thinker_is_heard_only_through_sound_and_pictures(opened, modality, heard):
    """The talker takes text as embeddings, which stay BF16; of the thinker's layers it hears media tokens alone."""
    before, after = (
        opened(numerics).speech_logprobs(about(modality), [38, 48, 431], some_codes()).values
        for numerics in ("bf16", "w4a4")
    )
    assert all(map(np.array_equal, before, after)) is not heard


def test_the_same_question_has_the_same_answer(opened):
    ask = (about("audio"), [38, 48, 431], some_codes())
    one, other = (opened("w4a4").speech_logprobs(*ask).values for _ in range(2))
    assert all(map(np.array_equal, one, other))


def test_an_answer_in_the_conversation_is_left_out(opened):
    answered, codes = about("text"), some_codes()
    assert answered.answered
    one, other = (opened("bf16").speech_logprobs(each, [38, 48, 431], codes) for each in (answered, question(answered)))
    assert all(map(np.array_equal, one.values, other.values))


def test_no_waveform_is_made_and_nothing_is_left_behind(opened):
    handle, asked = opened("bf16"), about("text")
    with handle.loaded(speech=True) as model:
        heard = []
        hook = model.code2wav.register_forward_hook(lambda *given: heard.append(given))
        spoken = handle.generate(asked, speech=True)
        assert heard
        heard.clear()
        handle.speech_logprobs(asked, spoken.tokens, spoken.codes)
        assert not heard
        with pytest.raises(EngineError):  # a text token that the vocabulary does not have, deep inside
            handle.speech_logprobs(asked, [10**9, 431], spoken.codes)
        hook.remove()
        assert "generate" not in vars(model.talker.code_predictor)
        assert "chunked_decode" not in vars(model.code2wav)
    assert np.array_equal(handle.generate(asked, speech=True).waveform, spoken.waveform)


def test_a_model_with_modelopts_quantizers(original_checkpoint):
    pytest.importorskip("modelopt", reason=_REASON)
    from pytest_q3omni.engines import modelopt
    from pytest_q3omni.engines.transformers import load_model
    from pytest_q3omni.plan.build import build_plan

    handle = ModelHandle(original_checkpoint, device="cpu")
    ask = (handle.processor, about("audio"), "cpu", [38, 48, 431], some_codes())
    model, plain = load_model(original_checkpoint, speech=True), load_model(original_checkpoint, speech=True)
    tensors = build_plan(original_checkpoint, "nvfp4-default").tensors
    model = modelopt.fake_quantize(model, tensors, lambda model: speech_logprobs(model, *ask))
    quantized, exact = speech_logprobs(model, *ask), speech_logprobs(plain, *ask)
    assert np.isfinite(quantized.values[0]).all()
    assert [values.shape for values in quantized.values] == [values.shape for values in exact.values]
    assert not np.array_equal(quantized.values[0], exact.values[0])


@pytest.mark.parametrize(
    ("codes", "found"),
    [
        (np.zeros((3, 5), int), r"codes int64 \(3, 5\)"),
        (np.zeros((4, 0), int), r"codes int64 \(4, 0\)"),
        (np.zeros(4, int), r"codes int64 \(4,\)"),
        (np.zeros((4, 5)), r"codes float64 \(4, 5\)"),
        (np.full((4, 5), 64), "codes from 64 to 64"),
        (np.full((4, 5), -1), "codes from -1 to -1"),
    ],
)
def test_codes_of_another_model_are_refused(opened, codes, found):
    with pytest.raises(InvalidRequest, match=rf"{found}; expected integers of the shape \(4, frames\), from 0 to 63"):
        opened("bf16").speech_logprobs(about("text"), [38, 48, 431], codes)


def test_sound_and_pictures_in_one_conversation_are_refused_before_the_model_opens(original_checkpoint):
    handle, asked = ModelHandle(original_checkpoint, device="cpu"), mixed()
    text = rf"{asked.id}: transformers cannot speak about sound and pictures in one conversation.*audio_config.*Fix: "
    with pytest.raises(EngineError, match=text):
        handle.generate(asked, speech=True)
    with pytest.raises(EngineError, match=text):
        handle.speech_logprobs(asked, [38, 48, 431], some_codes())
    assert handle not in handles.open_models()


def test_transformers_still_cannot_speak_about_both(opened):
    """The defect behind the refusal. When this fails, transformers has mended it: drop the case from `check_speech`."""
    handle = opened("bf16")
    inputs = conversation_inputs(handle.processor, question(mixed()))
    with (
        handle.loaded(speech=True) as model,
        pytest.raises(AttributeError, match="'Qwen3OmniMoeTalkerConfig' object has no attribute 'audio_config'"),
    ):
        model.generate(**inputs, return_audio=True, thinker_max_new_tokens=4, talker_max_new_tokens=4)


@pytest.mark.parametrize("tokens", [0, 1])
def test_an_answer_of_one_token_cannot_be_spoken(tokens):
    asked = question(about("text"))
    with pytest.raises(InvalidRequest, match=f"speech of an answer of {tokens} tokens; expected at least 2"):
        check_speech(asked, tokens)
    check_speech(asked, 2)


def test_prompts_are_judged_by_their_role_markers():
    with pytest.raises(NotChatML, match=r"^the prompt: no `<\|im_start\|>user` and no `<\|im_start\|>assistant`"):
        check_speech("Hello", 256)
    check_speech("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n", 256)
