"""The original model in memory, and conversations as its inputs."""

import json
import shutil

import pytest

pytestmark = pytest.mark.tiny

_REASON = "needs the quantize extra: pip install pytest-q3omni[quantize]"
torch = pytest.importorskip("torch", reason=_REASON)
pytest.importorskip("transformers", reason=_REASON)

from pytest_q3omni.engines.transformers import (  # noqa: E402
    conversation_inputs,
    load_model,
    render_prompt,
    thinker_step,
)
from pytest_q3omni.errors import EngineError, Incomplete, InvalidRequest, MissingDependency, NotChatML  # noqa: E402
from pytest_q3omni.omni.checkpoint import open_checkpoint  # noqa: E402
from pytest_q3omni.omni.conversations import load_conversations, parse_conversation  # noqa: E402
from pytest_q3omni.omni.processor import load_processor  # noqa: E402
from pytest_q3omni.omni.safetensors_file import layout  # noqa: E402
from pytest_q3omni.omni.tiny import checkpoint_path, conversations_path  # noqa: E402


@pytest.fixture(scope="module")
def processor():
    return load_processor(checkpoint_path())


@pytest.fixture(scope="module")
def conversations():
    return load_conversations(conversations_path())


@pytest.fixture
def copy(tmp_path):
    """A checkpoint of one's own to break."""
    return shutil.copytree(checkpoint_path(), tmp_path / "model")


def ask(content, tmp_path):
    return parse_conversation({"messages": [{"role": "user", "content": content}]}, "ask:1", tmp_path)


def test_the_thinker_alone_has_the_same_names_and_weights():
    alone, whole = load_model(checkpoint_path()), load_model(checkpoint_path(), speech=True)
    parts = dict(whole.named_parameters())
    assert not alone.has_talker
    assert whole.has_talker
    for name, weight in alone.named_parameters():
        assert name.startswith("thinker.")
        assert weight.dtype == torch.bfloat16
        assert torch.equal(weight, parts[name])


def test_experts_are_eager():
    assert load_model(checkpoint_path()).thinker.model.config._experts_implementation == "eager"


def test_loading_says_nothing(capfd):
    load_model(checkpoint_path())
    assert capfd.readouterr() == ("", "")


def drop_tensor(folder, name):
    """Write the weights again without one tensor."""
    checkpoint = open_checkpoint(folder)
    kept = [tensor for tensor in checkpoint.tensors if tensor.name != name]
    planned = layout(kept)
    data = {tensor.name: checkpoint.read(tensor.name).tobytes() for tensor in planned.tensors}
    (folder / "model.safetensors").write_bytes(planned.header + b"".join(data.values()))


def test_a_missing_weight_is_named_and_not_invented(copy):
    drop_tensor(copy, "thinker.model.norm.weight")
    with pytest.raises(Incomplete, match=r"thinker\.model\.norm\.weight"):
        load_model(copy)


def test_a_weight_of_another_shape_is_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    config["thinker_config"]["text_config"]["vocab_size"] += 64
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(Incomplete, match=r"2 parameters are missing or of another shape, the first: thinker\.lm_head"):
        load_model(copy)


def test_a_damaged_file_is_an_engine_error_with_its_cause(copy):
    (copy / "model.safetensors").write_bytes(b"no safetensors")
    with pytest.raises(EngineError, match="cannot load the model") as caught:
        load_model(copy)
    assert caught.value.__cause__ is not None


def test_pickled_weights_are_not_loaded(copy):
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(EngineError, match="cannot load the model"):
        load_model(copy)


def test_every_bundled_conversation_runs(processor, conversations):
    model = load_model(checkpoint_path())
    config = model.config.thinker_config
    for conversation in conversations[:6]:
        inputs = conversation_inputs(processor, conversation)
        with torch.inference_mode():
            logits = thinker_step(model, inputs).logits
        assert logits.shape[:2] == inputs["input_ids"].shape
        assert logits.isfinite().all()
        assert ("image" in conversation.modalities) == bool((inputs["input_ids"] == config.image_token_id).any())
        assert ("audio" in conversation.modalities) == bool((inputs["input_ids"] == config.audio_token_id).any())


def test_the_whole_model_has_no_forward(processor, conversations):
    """Why the step is `thinker_step`: the investigation called the model itself."""
    model = load_model(checkpoint_path())
    with pytest.raises(TypeError, match="_forward_unimplemented"):
        model(**conversation_inputs(processor, conversations[0]))


def test_the_prompt_opens_the_assistants_turn_only_for_open_questions(processor, conversations):
    answered = next(item for item in conversations if item.answered)
    asked = next(item for item in conversations if not item.answered)
    assert render_prompt(processor, answered).rstrip().endswith("<|im_end|>")
    assert render_prompt(processor, asked).endswith("<|im_start|>assistant\n")


def test_placeholders_in_the_text_are_refused(processor, tmp_path):
    with pytest.raises(InvalidRequest, match=r"1 times <\|image_pad\|> in the prompt; expected 0"):
        render_prompt(processor, ask("Look: <|image_pad|>", tmp_path))


def test_a_template_without_roles_is_not_chatml(tmp_path):
    processor = load_processor(checkpoint_path())
    processor.chat_template = "{% for m in messages %}{{ m.content[0].text }}{% endfor %}"
    with pytest.raises(NotChatML, match=r"ask:1: no `<\|im_start\|>user`"):
        render_prompt(processor, ask("Hello", tmp_path))


def test_what_the_processor_cannot_take_is_named(tmp_path, monkeypatch):
    processor = load_processor(checkpoint_path())

    def failing(*args, **kwargs):
        raise RuntimeError("too odd")

    monkeypatch.setattr(type(processor), "__call__", failing)
    with pytest.raises(EngineError, match=r"ask:1: the processor fails \(RuntimeError: too odd\)"):
        conversation_inputs(processor, ask("Hello", tmp_path))


def data_uri(stream, kind):
    import base64

    return f"data:{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def test_long_texts_and_tiny_pictures_say_nothing(processor, tmp_path, capfd, caplog):
    from io import BytesIO

    from PIL import Image

    stream = BytesIO()
    Image.new("RGB", (1, 1)).save(stream, "PNG")
    parts = [{"type": "image", "image": data_uri(stream, "image/png")}, {"type": "text", "text": "word " * 3000}]
    assert conversation_inputs(processor, ask(parts, tmp_path))["input_ids"].shape[1] > 3000
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""


def test_the_shortest_accepted_sound_gives_finite_logits(processor, tmp_path):
    """The bound of `decode_audio`; 8 frames and fewer give NaN on CPUs."""
    from io import BytesIO

    import numpy as np
    import soundfile

    model = load_model(checkpoint_path())
    for rate, count in ((16_000, 1600), (44_100, 4410), (16_000, 1760)):
        stream = BytesIO()
        soundfile.write(stream, np.sin(np.arange(count) * 0.1) / 3, rate, format="WAV")
        inputs = conversation_inputs(
            processor, ask([{"type": "audio", "audio": data_uri(stream, "audio/wav")}], tmp_path)
        )
        with torch.inference_mode():
            assert thinker_step(model, inputs).logits.isfinite().all()


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingDependency, match=r"pytest-q3omni\[quantize\]"):
        load_model(checkpoint_path())
