"""Tokens per expert and modality: what the routers chose, counted by what each token is."""

import pytest

pytestmark = pytest.mark.tiny

_REASON = "needs the quantize extra: pip install pytest-q3omni[quantize]"
torch = pytest.importorskip("torch", reason=_REASON)
pytest.importorskip("transformers", reason=_REASON)

from pytest_q3omni.calibrate.coverage import MODALITIES, Coverage  # noqa: E402
from pytest_q3omni.engines.transformers import conversation_inputs, load_model, thinker_step  # noqa: E402
from pytest_q3omni.omni.conversations import load_conversations  # noqa: E402
from pytest_q3omni.omni.processor import load_processor  # noqa: E402
from pytest_q3omni.omni.tiny import checkpoint_path, conversations_path  # noqa: E402

EXPERTS = ["thinker.model.layers.0.mlp.experts", "thinker.model.layers.1.mlp.experts"]


@pytest.fixture(scope="module")
def model():
    return load_model(checkpoint_path(), speech=True)


@pytest.fixture(scope="module")
def samples():
    processor = load_processor(checkpoint_path())
    return [conversation_inputs(processor, item) for item in load_conversations(conversations_path())[:6]]


def observe(model, samples, *, keep=True):
    coverage = Coverage(model)
    with coverage.watching(), torch.inference_mode():
        for inputs in samples:
            coverage.begin(inputs)
            thinker_step(model, inputs)
            if keep:
                coverage.keep()
    return coverage.tokens()


def test_only_the_thinkers_experts_are_listed(model):
    assert list(Coverage(model).tokens()) == list(MODALITIES)
    assert all(list(tokens) == EXPERTS for tokens in Coverage(model).tokens().values())


def test_every_token_is_counted_once_per_chosen_expert(model, samples):
    found = observe(model, samples)
    config = model.config.thinker_config
    ids = torch.cat([inputs["input_ids"].flatten() for inputs in samples])
    images, audio = int((ids == config.image_token_id).sum()), int((ids == config.audio_token_id).sum())
    wanted = {"image": images, "audio": audio, "text": len(ids) - images - audio}
    assert all(count > 0 for count in wanted.values())
    for modality, tokens in found.items():
        for counts in tokens.values():
            assert len(counts) == 8
            assert sum(counts) == wanted[modality] * config.text_config.num_experts_per_tok


def test_counts_are_what_the_routers_inputs_say(model, samples):
    """Recomputed from the router's input and weight: `output_router_logits` gives nothing in transformers 5.16."""
    found = observe(model, samples[:1])
    logits = {}

    def look(name):
        def hook(gate, inputs):
            logits[name] = torch.nn.functional.linear(inputs[0].flatten(0, -2), gate.weight)

        return hook

    gates = [layer.mlp.gate for layer in model.thinker.model.layers]
    hooks = [gate.register_forward_pre_hook(look(name)) for name, gate in zip(EXPERTS, gates, strict=True)]
    with torch.inference_mode():
        thinker_step(model, samples[0])
    for hook in hooks:
        hook.remove()
    for name in EXPERTS:
        chosen = logits[name].float().softmax(-1).topk(2).indices.flatten()
        assert found["text"][name] == tuple(torch.bincount(chosen, minlength=8).tolist())


def test_the_modality_is_that_of_the_token(model, samples):
    picture = samples[1]
    found = observe(model, [picture])
    assert all(sum(counts) == 0 for counts in found["audio"].values())
    assert all(sum(counts) > 0 for kind in ("text", "image") for counts in found[kind].values())


def test_a_sample_that_is_not_kept_leaves_no_trace(model, samples):
    found = observe(model, samples, keep=False)
    assert all(sum(counts) == 0 for tokens in found.values() for counts in tokens.values())


def test_a_sample_that_fails_halfway_leaves_nothing_in_the_next(model, samples):
    coverage = Coverage(model)
    with coverage.watching(), torch.inference_mode():
        coverage.begin(samples[0])
        thinker_step(model, samples[0])  # and never kept
        coverage.begin(samples[1])
        thinker_step(model, samples[1])
        coverage.keep()
    assert coverage.tokens() == observe(model, [samples[1]])


def test_padding_is_not_counted(model, samples):
    inputs = samples[0]
    width = inputs["input_ids"].shape[1]
    padded = {
        "input_ids": torch.cat([torch.zeros(1, 5, dtype=torch.int64), inputs["input_ids"]], dim=1),
        "attention_mask": torch.cat([torch.zeros(1, 5, dtype=torch.int64), inputs["attention_mask"]], dim=1),
    }
    found = observe(model, [padded])
    assert sum(found["text"][EXPERTS[0]]) == 2 * width


def test_generated_tokens_are_text(model, samples):
    coverage = Coverage(model)
    width = samples[0]["input_ids"].shape[1]
    with coverage.watching(), torch.inference_mode():
        coverage.begin(samples[0])
        model.thinker.generate(**samples[0], max_new_tokens=3, min_new_tokens=3, do_sample=False)
        coverage.keep()
    assert sum(coverage.tokens()["text"][EXPERTS[0]]) == 2 * (width + 2)


def test_hooks_are_gone_afterwards(model, samples):
    def hooks():  # transformers leaves hooks of its own
        return [len(layer.mlp.gate._forward_hooks) for layer in model.thinker.model.layers]

    before = hooks()
    with pytest.raises(RuntimeError, match="stop"), Coverage(model).watching():
        raise RuntimeError("stop")
    observe(model, samples[:1])
    assert hooks() == before
