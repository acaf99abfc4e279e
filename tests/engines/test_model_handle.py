"""Model handles: lazy, in the file's numerics, and only as many open as fit."""

import json
import shutil

import pytest

pytestmark = pytest.mark.tiny

_REASON = "needs the quantize extra: pip install pytest-q3omni[quantize]"
torch = pytest.importorskip("torch", reason=_REASON)
pytest.importorskip("transformers", reason=_REASON)
np = pytest.importorskip("numpy")

from pytest_q3omni.engines import handle as handles  # noqa: E402
from pytest_q3omni.engines.handle import ModelHandle  # noqa: E402
from pytest_q3omni.engines.packed import bf16_bytes, packed_modules  # noqa: E402
from pytest_q3omni.errors import EngineError, Inconsistent, InvalidRequest, NotChatML  # noqa: E402
from pytest_q3omni.omni.checkpoint import open_checkpoint  # noqa: E402
from pytest_q3omni.omni.conversations import load_conversations  # noqa: E402
from pytest_q3omni.omni.tiny import conversations_path  # noqa: E402

MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    for handle in handles.open_models():
        handle.close()


@pytest.fixture
def original(original_checkpoint):
    return ModelHandle(original_checkpoint, device="cpu")


@pytest.fixture
def quantized(quantized_checkpoint):
    return ModelHandle(quantized_checkpoint, device="cpu")


@pytest.fixture
def memory(monkeypatch):
    """Pretend that so many bytes are free while no model is open; each open one takes what it says it needs."""

    def pretend(total):
        def free(device):
            return total - sum(handle._bytes(handle._speaking) for handle in handles.open_models())

        monkeypatch.setattr(handles, "available_bytes", free)

    return pretend


def test_making_a_handle_opens_nothing(original, quantized, original_checkpoint):
    assert (original.path, original.config["model_type"]) == (original_checkpoint, "qwen3_omni_moe")
    assert (original.numerics, quantized.numerics) == ("bf16", "w4a4")
    assert "closed" in repr(original)
    assert handles.open_models() == ()


def test_a_file_made_for_w4a4_runs_in_w4a16_too(quantized_checkpoint):
    assert ModelHandle(quantized_checkpoint, numerics="w4a16").numerics == "w4a16"


@pytest.mark.parametrize("numerics", ["w4a16", "w4a4"])
def test_numerics_that_the_file_is_not_made_for_are_refused(original_checkpoint, quantized_checkpoint, numerics):
    with pytest.raises(InvalidRequest, match=f"numerics {numerics}; expected bf16"):
        ModelHandle(original_checkpoint, numerics=numerics)
    with pytest.raises(InvalidRequest, match="numerics bf16; expected w4a4 or w4a16"):
        ModelHandle(quantized_checkpoint, numerics="bf16")


def test_weights_are_the_files_and_the_rest_is_the_originals(original, quantized, quantized_checkpoint):
    from pytest_q3omni.nvfp4 import Packed, unpack_tensor

    file, name = open_checkpoint(quantized_checkpoint), "thinker.model.layers.1.self_attn.o_proj"
    scale = file.array(f"{name}.weight_scale_2")
    packed = Packed(file.array(f"{name}.weight"), file.array(f"{name}.weight_scale"), scale.reshape(-1)[0])
    with original.loaded() as before, quantized.loaded() as after:
        weights, sources = after.state_dict(), before.state_dict()
        assert torch.equal(weights[f"{name}.weight"], torch.from_numpy(unpack_tensor(packed)).bfloat16())
        assert weights.keys() == sources.keys()
        changed = {key for key in weights if not torch.equal(weights[key], sources[key])}
    assert changed == {
        f"thinker.model.layers.{layer}.{part}"
        for layer in (0, 1)
        for part in (
            "mlp.experts.gate_up_proj",
            "mlp.experts.down_proj",
            *(f"self_attn.{p}_proj.weight" for p in "qkvo"),
        )
    }


@pytest.mark.parametrize("modality", ["text", "image", "audio"])
def test_both_answer_what_the_tiny_model_was_taught(original, quantized, modality):
    asked = next(
        each for each in load_conversations(conversations_path()) if each.answered and modality in each.modalities
    )
    wanted = asked.messages[-1]["content"][0]["text"]
    assert original.generate(asked).text == wanted
    assert quantized.generate(asked).text == wanted


def test_log_probabilities_are_of_the_answer_up_to_its_end(original):
    asked = [*MESSAGES, {"role": "assistant", "content": "AB"}]
    found = original.logprobs(asked)
    assert (found.values.dtype, found.tokens.dtype) == (np.float32, np.int64)
    assert found.values.shape == (len(found.tokens), original.config["thinker_config"]["text_config"]["vocab_size"])
    assert np.exp(found.values).sum(-1) == pytest.approx(1, abs=1e-5)
    assert original.processor.tokenizer.decode(found.tokens) == "AB<|im_end|>"
    assert found.of_answer.tolist() == [row[token] for row, token in zip(found.values, found.tokens, strict=True)]


def test_speech_comes_with_its_codes(original):
    answer = original.generate(MESSAGES, max_new_tokens=8, speech=True)
    codebooks = original.config["code2wav_config"]["num_quantizers"]
    assert answer.codes.dtype == np.int64
    assert answer.codes.shape[0] == codebooks
    assert (answer.waveform.dtype, answer.waveform.ndim) == (np.float32, 1)
    assert np.isfinite(answer.waveform).all()
    again = original.generate(MESSAGES, max_new_tokens=8, speech=True)
    assert np.array_equal(answer.codes, again.codes), "greedy: the same codes every time"
    assert original.generate(MESSAGES, max_new_tokens=8).waveform is None


def test_a_thinker_alone_answers_in_text_and_refuses_speech(original_checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    alone = tmp_path / "thinking"
    shutil.copytree(original_checkpoint, alone)
    tensors = {
        key: value for key, value in load_file(alone / "model.safetensors").items() if key.startswith("thinker.")
    }
    save_file(tensors, alone / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((alone / "config.json").read_text())
    (alone / "config.json").write_text(json.dumps({**config, "enable_audio_output": False}))
    handle = ModelHandle(alone, device="cpu")
    assert not handle.speaks
    assert handle.generate(MESSAGES, max_new_tokens=4).tokens
    with pytest.raises(InvalidRequest, match="speech of a checkpoint that has no talker"):
        handle.generate(MESSAGES, speech=True)


def test_questions_are_checked(original):
    with pytest.raises(InvalidRequest, match="no answer to judge"):
        original.logprobs(MESSAGES)
    with pytest.raises(NotChatML, match="the role 'human'"):
        original.generate([{"role": "human", "content": "Hello"}])


def test_a_prompt_reaches_the_model_as_it_is(original):
    from pytest_q3omni.engines.transformers import render_prompt

    prompt = render_prompt(original.processor, handles._conversation(MESSAGES))
    asked, told = (original.generate(each, max_new_tokens=8, speech=True) for each in (MESSAGES, prompt))
    assert told.tokens == asked.tokens
    assert np.array_equal(told.codes, asked.codes)
    assert original.generate("Hello", max_new_tokens=8).tokens, "text needs no role markers"


def test_speech_of_a_plain_prompt_is_refused_before_the_model_opens(original):
    marker = r"no `<\|im_start\|>{}`".format
    text = f"^the prompt: {marker('user')} and {marker('assistant')} in the prompt 'Hello'; expected .* Fix: "
    with pytest.raises(NotChatML, match=text) as caught:
        original.generate("Hello", speech=True)
    assert "\n" not in str(caught.value)
    assert handles.open_models() == ()


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("", "the prompt: an empty prompt"),
        ("<|audio_pad|> What?", r"the prompt: 1 times <\|audio_pad\|> in the prompt; expected 0"),
        ("<|image_pad|> What?", r"the prompt: 1 times <\|image_pad\|> in the prompt; expected 0"),
    ],
)
def test_prompts_that_no_model_can_answer_are_refused(original, prompt, found):
    with pytest.raises(InvalidRequest, match=found):
        original.generate(prompt)


def test_a_prompt_has_no_answer_to_judge(original):
    with pytest.raises(NotChatML, match=r"no `<\|im_start\|>user`"):
        original.logprobs("Hello")
    with pytest.raises(InvalidRequest, match="a rendered prompt"):
        original.logprobs("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize("speech", [False, True])
def test_a_failure_inside_the_model_is_ours_with_its_cause(original, monkeypatch, speech):
    with original.loaded(speech=True) as model:
        monkeypatch.setattr(model.thinker, "generate", lambda **given: {}["inside"])
        with pytest.raises(EngineError, match=r"messages: the model fails \(KeyError: 'inside'\)") as caught:
            original.generate(MESSAGES, speech=speech)
    assert isinstance(caught.value.__cause__, KeyError)
    assert ("ask without speech" in caught.value.fix) is speech


def test_a_model_stays_open_until_it_is_closed(original):
    with original.loaded() as first:
        pass
    with original.loaded() as second:
        assert second is first
        with pytest.raises(InvalidRequest, match="the model is in use"):
            original.close()
    original.close()
    assert handles.open_models() == ()
    original.close()


def test_talker_and_vocoder_are_loaded_when_asked_for(original):
    with original.loaded(speech=False) as model:
        assert not model.has_talker
    with original.loaded() as model:
        assert model.has_talker


def test_two_models_stay_open_where_both_fit(original, quantized, memory):
    memory(1 << 40)
    original.generate(MESSAGES, max_new_tokens=1)
    quantized.generate(MESSAGES, max_new_tokens=1)
    assert handles.open_models() == (original, quantized)


def test_opening_one_closes_the_other_where_both_do_not_fit(original, quantized, memory):
    memory(int(1.5 * original._bytes(speech=False)))
    for handle in (original, quantized, original):
        handle.generate(MESSAGES, max_new_tokens=1)
        assert handles.open_models() == (handle,)


def test_the_model_that_was_not_used_for_longest_is_closed(original, quantized, memory):
    third = ModelHandle(quantized.path, numerics="w4a16", device="cpu")
    memory(int(2.5 * original._bytes(speech=False)))
    for handle in (original, quantized, original):
        handle.generate(MESSAGES, max_new_tokens=1)
    assert handles.open_models() == (quantized, original)
    third.generate(MESSAGES, max_new_tokens=1)
    assert handles.open_models() == (original, third)


def test_a_model_in_use_is_not_closed_for_another(original, quantized, memory):
    memory(int(1.5 * original._bytes(speech=False)))
    with (
        original.loaded(speech=False),
        pytest.raises(EngineError, match=r"needs .* on cpu, .* are free; .*, which is in use"),
    ):
        quantized.generate(MESSAGES, max_new_tokens=1)
    assert handles.open_models() == (original,)


def test_a_model_that_cannot_fit_says_so_before_it_is_loaded(original, memory):
    memory(1 << 20)
    with pytest.raises(
        EngineError, match=r"the model needs \d\.\d MiB on cpu, 1\.0 MiB are free; expected room for it\. Fix"
    ):
        original.generate(MESSAGES, max_new_tokens=1)


def test_bytes_are_those_of_the_bf16_model(original_checkpoint, quantized_checkpoint):
    before, after = open_checkpoint(original_checkpoint), open_checkpoint(quantized_checkpoint)
    assert bf16_bytes(after, packed_modules(after)) == bf16_bytes(before, set()) == 2 * 1_946_121


def test_another_layout_is_refused_by_name(quantized_checkpoint, tmp_path):
    shutil.copytree(quantized_checkpoint, tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq"}
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidRequest, match="quantization_config of 'gptq'; expected a layout that"):
        _ = ModelHandle(tmp_path / "other").numerics


def test_an_input_scale_that_is_no_number_is_refused(quantized_checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(quantized_checkpoint, tmp_path / "nan")
    tensors = load_file(tmp_path / "nan" / "model.safetensors")
    name = "thinker.model.layers.0.self_attn.q_proj.input_scale"
    tensors[name] = torch.full_like(tensors[name], float("nan"))
    save_file(tensors, tmp_path / "nan" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Inconsistent, match=f"{name}: input scale nan"):
        ModelHandle(tmp_path / "nan", device="cpu").generate(MESSAGES)


@pytest.mark.parametrize(("layers", "found"), [(10**9, "tensors"), (40, "describes .* parameters")])
def test_a_config_that_describes_more_than_the_files_hold_is_refused_before_it_is_built(
    layers, found, original_checkpoint, tmp_path
):
    # transformers would make modules for all of them: a billion layers filled the memory of whoever opened them
    place = tmp_path / "grown"
    shutil.copytree(original_checkpoint, place)
    config = json.loads((place / "config.json").read_text())
    config["thinker_config"]["text_config"]["num_hidden_layers"] = layers
    (place / "config.json").write_text(json.dumps(config))
    with pytest.raises(Inconsistent, match=found):
        ModelHandle(place, device="cpu").generate(MESSAGES)
