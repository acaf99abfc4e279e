"""The committed tiny checkpoint: its files, its weights, and what it knows."""

import json
import subprocess
import sys
from dataclasses import replace

import jinja2
import numpy as np
import pytest
from safetensors import safe_open

from pytest_q3omni.omni.tiny import checkpoint_path

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from recipe.checkpoint import CARD, load_processor  # noqa: E402
from recipe.config import build_config  # noqa: E402
from recipe.evaluate import evaluate, expert_tokens  # noqa: E402
from recipe.media import picture, save_png, save_wav, tone  # noqa: E402
from recipe.task import FACTS, KINDS, Sample, draw_sample, speech_codes  # noqa: E402
from recipe.tokenizer import SPECIAL_TOKENS, build_tokenizer  # noqa: E402
from recipe.weights import LOUDNESS  # noqa: E402

pytestmark = pytest.mark.tiny

CHECKPOINT = checkpoint_path()
FILES = {
    "README.md",
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
}


@pytest.fixture(scope="module")
def loaded():
    model, report = transformers.Qwen3OmniMoeForConditionalGeneration.from_pretrained(
        CHECKPOINT, dtype="auto", output_loading_info=True
    )
    return model.eval(), report


@pytest.fixture(scope="module")
def model(loaded):
    return loaded[0]


@pytest.fixture(scope="module")
def processor():
    return load_processor(CHECKPOINT)


@pytest.fixture(scope="module")
def weights():
    with safe_open(CHECKPOINT / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def read_json(name):
    return json.loads((CHECKPOINT / name).read_text(encoding="utf-8"))


def unfused(shapes):
    """transformers' fused experts `(experts, out, in)`, one by one as the hub stores them."""
    for name, (experts, *shape) in shapes.items():
        parent, _, leaf = name.rpartition(".")
        if not parent.endswith(".experts"):
            yield name, (experts, *shape)
            continue
        for expert in range(experts):
            if leaf == "gate_up_proj":
                yield f"{parent}.{expert}.gate_proj.weight", (shape[0] // 2, shape[1])
                yield f"{parent}.{expert}.up_proj.weight", (shape[0] // 2, shape[1])
            else:
                yield f"{parent}.{expert}.{leaf}.weight", tuple(shape)


# Files


def test_the_package_data_are_the_hubs_files_and_small():
    files = {path.name: path.stat().st_size for path in CHECKPOINT.iterdir()}
    assert set(files) == FILES  # none of them is a pickle
    assert sum(files.values()) <= 5e6


def test_finding_the_checkpoint_imports_nothing_heavy():
    code = (
        "import sys; from pytest_q3omni.omni.tiny import checkpoint_path; assert checkpoint_path().is_dir();"
        "print([name for name in ('torch', 'transformers', 'numpy', 'numba') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_names_and_shapes_are_those_of_the_configuration(weights):
    config = transformers.AutoConfig.from_pretrained(CHECKPOINT)
    with torch.device("meta"):
        model = transformers.Qwen3OmniMoeForConditionalGeneration(config)
    expected = dict(unfused({name: tuple(parameter.shape) for name, parameter in model.named_parameters()}))
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == expected
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}


def test_every_stage_and_every_kind_of_weight_is_there(weights):
    stages = ("thinker.model.", "thinker.audio_tower.", "thinker.visual.", "thinker.lm_head.")
    stages += ("talker.model.", "talker.code_predictor.", "talker.hidden_projection.", "code2wav.")
    assert [stage for stage in stages if not any(name.startswith(stage) for name in weights)] == []


def test_no_weight_is_dead(weights):
    bad = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    bad += [name for name, tensor in weights.items() if tensor.ndim > 1 and not tensor.any()]
    assert bad == []


def test_every_linear_layer_fits_the_block_formats(model):
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert linear
    assert [module for module in linear if module.in_features % 16] == []


def test_the_configuration_is_the_recipes(processor):
    stored = transformers.AutoConfig.from_pretrained(CHECKPOINT).to_dict()
    built = build_config(processor.tokenizer).to_dict()
    for config in (stored, built):
        config["talker_config"].pop("model_type")  # stored as on the hub, while its class has none
        config.pop("transformers_version", None)
        config.pop("_name_or_path", None)
    assert stored == built


def test_the_model_card_is_the_recipes(weights):
    card = CARD.read_text(encoding="utf-8")
    count = sum(tensor.numel() for tensor in weights.values())
    assert (CHECKPOINT / "README.md").read_text(encoding="utf-8") == card.replace("PARAMETERS", f"{count:,}")
    assert "\nlicense: apache-2.0\n" in card.split("---")[1]


# Tokenizer and chat template


def test_the_tokenizer_is_the_recipes(tmp_path):
    build_tokenizer(tmp_path)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "chat_template.json"):
        assert (tmp_path / name).read_text(encoding="utf-8") == (CHECKPOINT / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize("word", ["user", "assistant", "system", *SPECIAL_TOKENS])
def test_roles_and_special_tokens_are_one_token_each(processor, word):
    assert len(processor.tokenizer(word).input_ids) == 1


def test_token_ids_in_the_configuration_are_the_tokenizers(processor):
    config, vocabulary = read_json("config.json"), processor.tokenizer.get_vocab()
    named = {
        "im_start_token_id": "<|im_start|>",
        "im_end_token_id": "<|im_end|>",
        "tts_pad_token_id": "<tts_pad>",
        "tts_bos_token_id": "<tts_text_bos>",
        "tts_eos_token_id": "<tts_text_eod>",
        **{f"{role}_token_id": role for role in ("system", "user", "assistant")},
    }
    media = {
        **{f"{kind}_token_id": f"<|{kind}_pad|>" for kind in ("audio", "image", "video")},
        "audio_start_token_id": "<|audio_start|>",
        "audio_end_token_id": "<|audio_end|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    for part, names in ((config, named), (config["thinker_config"], media), (config["talker_config"], media)):
        assert {key: part[key] for key in names} == {key: vocabulary[token] for key, token in names.items()}
    assert read_json("generation_config.json")["eos_token_id"] == config["im_end_token_id"]
    assert max(vocabulary.values()) < config["thinker_config"]["text_config"]["vocab_size"]


@pytest.mark.parametrize("text", ["", "What is EM?", "Grüße, 你好, 🎉\n\t\0", "a" * 300, "<|im_start|>user\n"])
def test_any_text_has_tokens(processor, text):
    ids = processor.tokenizer(text).input_ids
    assert processor.tokenizer.decode(ids) == text


def test_the_chat_template_is_one_and_renders_without_transformers(processor):
    template = read_json("chat_template.json")["chat_template"]
    assert template == processor.chat_template == processor.tokenizer.chat_template
    sample = Sample("image", "What do you see?", "RG", image=picture("R", "G"), system="Look.")
    expected = (
        "<|im_start|>system\nLook.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What do you see?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    rendered = jinja2.Template(template).render(messages=sample.messages(), add_generation_prompt=True)
    assert rendered == expected
    assert processor.apply_chat_template(sample.messages(), add_generation_prompt=True, tokenize=False) == expected


# What it knows


def test_transformers_loads_it_without_complaint(loaded):
    model, report = loaded
    assert {name: list(found) for name, found in report.items()} == {key: [] for key in report}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_held_out_questions_are_answered(model, processor):
    shares = evaluate(model, processor)
    assert set(shares) == {"text", "audio", "image", "codes"}
    assert min(shares.values()) >= 0.97, shares


def test_every_thinker_expert_sees_every_modality(model, processor):
    counts = expert_tokens(model, processor, samples=20)
    assert {kind: int(tokens.min()) >= 30 for kind, tokens in counts.items()} == dict.fromkeys(counts, True), counts


SAMPLES = {
    "text": Sample("text", f"What is {next(iter(FACTS))}?", next(iter(FACTS.values()))),
    "audio": Sample("audio", "Which tone is this?", "C", audio=tone("C")),
    "image": Sample("image", "Which colours are these?", "RK", image=picture("R", "K")),
}


def prepare(sample, processor):
    prompt = processor.apply_chat_template(sample.messages(), add_generation_prompt=True, tokenize=False)
    sounds, pictures = sample.media()
    return processor(text=prompt, audio=sounds or None, images=pictures or None, return_tensors="pt")


@pytest.mark.parametrize("kind", SAMPLES)
def test_generation_answers_in_words(model, processor, kind):
    inputs = prepare(SAMPLES[kind], processor)
    ids = model.thinker.generate(**inputs, do_sample=False, max_new_tokens=8)
    answer = processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :])
    assert answer == f"{SAMPLES[kind].answer}<|im_end|>"


def test_generation_follows_two_turns_of_different_kinds(model, processor):
    sample = replace(SAMPLES["audio"], earlier=SAMPLES["image"], system="You are a tiny omni model.")
    inputs = prepare(sample, processor)
    ids = model.thinker.generate(**inputs, do_sample=False, max_new_tokens=8)
    assert processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :]) == f"{sample.answer}<|im_end|>"


def speak(model, inputs, monkeypatch):
    """Answer ids, codes int64 `(CODE_GROUPS, frames)` and wave float32 `(samples,)`."""
    heard, decode = [], model.code2wav.chunked_decode
    with monkeypatch.context() as patch:
        patch.setattr(model.code2wav, "chunked_decode", lambda codes, **kw: heard.append(codes) or decode(codes, **kw))
        ids, wave = model.generate(
            **inputs,
            return_audio=True,
            thinker_eos_token_id=model.config.im_end_token_id,
            thinker_max_new_tokens=8,
            talker_do_sample=False,
            talker_max_new_tokens=32,
        )
    return ids, heard[0][0].numpy(), wave.flatten()


@pytest.mark.parametrize("kind", SAMPLES)
def test_generation_answers_in_speech(model, processor, kind, monkeypatch):
    sample, inputs = SAMPLES[kind], prepare(SAMPLES[kind], processor)
    ids, codes, wave = speak(model, inputs, monkeypatch)
    assert processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :]) == f"{sample.answer}<|im_end|>"
    np.testing.assert_array_equal(codes.T, speech_codes(processor.tokenizer(sample.answer).input_ids, kind))
    assert wave.std() > 0.01
    assert wave.abs().max() < 1  # nothing is clipped
    assert abs(wave.std() / LOUDNESS - 1) < 0.5
    assert torch.equal(wave, speak(model, inputs, monkeypatch)[2])


def test_free_speech_matches_the_targets_on_held_out_questions(model, processor, monkeypatch):
    rng = np.random.default_rng(31)
    wrong = []
    for sample in [draw_sample(kind, rng, held_out=True) for kind in KINDS for _ in range(6)]:
        if all(sample.media()):
            continue  # transformers cannot speak after a sound and a picture in one conversation
        _, codes, _ = speak(model, prepare(sample, processor), monkeypatch)
        expected = speech_codes(processor.tokenizer(sample.answer).input_ids, sample.kind).T
        if not np.array_equal(codes, expected):
            wrong.append((sample.kind, sample.question, codes, expected))
    assert wrong == []


def test_samples_can_be_written_as_files(tmp_path, model, processor):
    import soundfile
    from PIL import Image

    save_wav(tmp_path / "c.wav", tone("C"))
    save_png(tmp_path / "rk.png", picture("R", "K"))
    sound, rate = soundfile.read(tmp_path / "c.wav", dtype="float32")
    assert rate == processor.feature_extractor.sampling_rate
    np.testing.assert_allclose(sound, tone("C"), atol=1e-4)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "rk.png")), picture("R", "K"))
