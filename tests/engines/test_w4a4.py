"""W4A4 on transformers computes what ModelOpt's fake quantization computes, bit for bit; and refuses what it cannot."""

import pytest

pytestmark = pytest.mark.tiny

_REASON = "needs the quantize extra: pip install pytest-q3omni[quantize]"
torch = pytest.importorskip("torch", reason=_REASON)
pytest.importorskip("transformers", reason=_REASON)
pytest.importorskip("modelopt", reason=_REASON)
np = pytest.importorskip("numpy")

from pytest_q3omni.calibrate.record import load_record  # noqa: E402
from pytest_q3omni.engines import fake_quant, modelopt, w4a4  # noqa: E402
from pytest_q3omni.engines.answers import logprobs  # noqa: E402
from pytest_q3omni.engines.handle import ModelHandle  # noqa: E402
from pytest_q3omni.engines.transformers import conversation_inputs, load_model, thinker_step  # noqa: E402
from pytest_q3omni.engines.w4a4 import IMPLEMENTATION, add_noise, quantize_activations, quantize_inputs  # noqa: E402
from pytest_q3omni.errors import Inconsistent  # noqa: E402
from pytest_q3omni.nvfp4.format import SCALE_DIVISOR  # noqa: E402
from pytest_q3omni.omni.conversations import load_conversations  # noqa: E402
from pytest_q3omni.omni.tiny import checkpoint_path, conversations_path, record_path  # noqa: E402
from pytest_q3omni.plan.build import build_plan  # noqa: E402

EXPERTS = "thinker.model.layers.0.mlp.experts"


@pytest.fixture(scope="module")
def conversations():
    return load_conversations(conversations_path())


@pytest.fixture
def handle(quantized_checkpoint):
    made = ModelHandle(quantized_checkpoint, device="cpu")
    yield made
    made.close()


@pytest.fixture(scope="module")
def calibrated(conversations):
    """ModelOpt's model with the packaged record's amax in its input quantizers; weights are not quantized."""
    inputs = conversation_inputs(ModelHandle(checkpoint_path()).processor, conversations[0])

    def loop(model):
        with torch.inference_mode():
            thinker_step(model, inputs)

    plan, record = build_plan(checkpoint_path(), "nvfp4-default"), load_record(record_path())
    model = modelopt.fake_quantize(load_model(checkpoint_path()), plan.tensors, loop, weights=False)
    for tensor in plan.packed:
        quantizer = model.get_submodule(modelopt._quantizers(tensor)[0])
        quantizer._amax.fill_(record.input_amax[tensor.input_site])
    return model


@pytest.fixture
def judged(calibrated, quantized_checkpoint):
    """ModelOpt's model with the packed file's weights."""
    dequantized = ModelHandle(quantized_checkpoint, numerics="w4a16", device="cpu")
    with torch.no_grad(), dequantized.loaded(speech=False) as model:
        weights = dict(model.named_parameters())
        for name, parameter in calibrated.named_parameters():
            parameter.copy_(weights[name])
    dequantized.close()
    return calibrated


def test_nan_stays_nan_and_the_rest_is_rounded_as_without_it():
    """The kernel that is followed skips NaN: a checkpoint with a broken scale would answer as if nothing were wrong."""
    clean = torch.linspace(-3, 3, 32, dtype=torch.bfloat16).reshape(1, 32)
    broken = clean.clone()
    broken[0, 5] = float("nan")
    scale = torch.tensor(3 / SCALE_DIVISOR)
    found = quantize_activations(broken, scale)
    assert found.isnan().nonzero().tolist() == [[0, 5]]
    assert torch.equal(found[0, 16:], quantize_activations(clean, scale)[0, 16:])


def test_it_equals_modelopts_fake_quantization_bit_for_bit(handle, judged, conversations, monkeypatch):
    # ModelOpt multiplies the amax by 1/2688 on CUDA, and so does our kernel for it; files hold the quotient, whose last
    # bit may differ. With the quotient on both sides nothing else is left to differ.
    def with_quotient(data, amax):
        return fake_quant.round_to_nvfp4(data, amax.float().amax() / SCALE_DIVISOR)

    monkeypatch.setattr(modelopt, "nvfp4_fake_quantize", with_quotient)
    with torch.inference_mode(), handle.loaded(speech=False) as model:
        for conversation in conversations[:12]:
            inputs = conversation_inputs(handle.processor, conversation)
            ours, theirs = thinker_step(model, inputs).logits, thinker_step(judged, inputs).logits
            assert torch.equal(ours, theirs), conversation.id


def test_the_last_bit_of_the_scale_matters_little(handle, judged, conversations):
    """Against ModelOpt as it is: mean KL 5e-5 over the answers, where rounding the activations at all costs 1.5e-3."""
    divergences = []
    for conversation in [each for each in conversations if each.answered][:12]:
        theirs = logprobs(judged, handle.processor, conversation, "cpu").values
        ours = handle.logprobs(conversation).values
        divergences.append((np.exp(theirs) * (theirs - ours)).sum(-1).mean())
    assert np.mean(divergences) < 5e-4
    assert np.max(divergences) < 1e-2


def test_activations_keep_shape_and_dtype_and_saturate():
    inputs = torch.linspace(-2, 2, 96, dtype=torch.bfloat16).reshape(2, 3, 16)
    rounded = quantize_activations(inputs, torch.tensor(2 / SCALE_DIVISOR))
    assert (rounded.shape, rounded.dtype) == (inputs.shape, inputs.dtype)
    # half a gap of E2M1 and half a step of the block scale: 17/96 of each token's largest activation
    largest = inputs.abs().amax(-1, keepdim=True).float()
    assert ((rounded.float() - inputs.float()).abs() <= largest * 17 / 96 * 1.01).all()
    assert quantize_activations(inputs, torch.tensor(1 / SCALE_DIVISOR)).abs().max() <= 1


def test_experts_without_scales_run_as_they_are(conversations):
    """A layer that is not packed keeps its activations, in a model where another one is packed."""
    model = load_model(checkpoint_path())
    plain = load_model(checkpoint_path())
    quantize_inputs(
        model, {f"{EXPERTS}.{number}.{name}_proj": 1.0 for number in range(8) for name in ("gate", "up", "down")}
    )
    assert model.thinker.config.text_config._experts_implementation == IMPLEMENTATION
    second = "model.layers.1.mlp.experts"
    given = torch.randn(5, model.thinker.config.text_config.hidden_size, dtype=torch.bfloat16)
    chosen, shares = (
        torch.tensor([[0, 3], [3, 1], [7, 0], [2, 5], [4, 6]]),
        torch.full((5, 2), 0.5, dtype=torch.bfloat16),
    )
    with torch.inference_mode():
        ours = model.thinker.get_submodule(second)(given, chosen, shares)
        theirs = plain.thinker.get_submodule(second)(given, chosen, shares)
    assert torch.equal(ours, theirs)


def test_of_two_scales_of_gate_and_up_the_larger_counts():
    model, large, small = load_model(checkpoint_path()), 4 / SCALE_DIVISOR, 1 / SCALE_DIVISOR
    experts = model.get_submodule(EXPERTS)
    given = torch.randn(8, model.thinker.config.text_config.hidden_size, generator=torch.Generator().manual_seed(3))
    given, chosen, shares = given.bfloat16(), torch.arange(8).unsqueeze(1), torch.ones(8, 1, dtype=torch.bfloat16)

    def run(gate, up):
        scales = {"gate": gate, "up": up, "down": lambda expert: large}
        quantize_inputs(
            model, {f"{EXPERTS}.{number}.{kind}_proj": scales[kind](number) for number in range(8) for kind in scales}
        )
        with torch.inference_mode():
            return experts(given, chosen, shares)

    def odd(expert):
        return large if expert % 2 else small

    def even(expert):
        return small if expert % 2 else large

    wanted = run(lambda expert: large, lambda expert: large)
    assert torch.equal(run(odd, even), wanted)
    assert torch.equal(run(even, odd), wanted)
    for expert, token in enumerate(run(lambda expert: small, lambda expert: small)):
        assert not torch.equal(token, wanted[expert]), "the smaller scale would show"


def test_a_scale_for_a_module_that_is_not_there_is_refused():
    with pytest.raises(
        Inconsistent, match=r"thinker\.model\.layers\.9\.self_attn\.q_proj: an input scale for a module"
    ):
        quantize_inputs(load_model(checkpoint_path()), {"thinker.model.layers.9.self_attn.q_proj": 1.0})


def test_experts_of_which_some_have_no_scale_are_refused():
    with pytest.raises(Inconsistent, match=rf"{EXPERTS}: 23 of its experts' projections have no input scale, first "):
        quantize_inputs(load_model(checkpoint_path()), {f"{EXPERTS}.0.gate_proj": 1.0})


SCALES = {
    f"{EXPERTS}.{number}.{kind}_proj": 4 / SCALE_DIVISOR for number in range(8) for kind in ("gate", "up", "down")
}
DENSE = "thinker.model.layers.0.self_attn.q_proj"


@pytest.fixture
def prepared():
    """A model with a packed dense layer and packed experts; what reaches the rounding, in the order it does."""
    model = load_model(checkpoint_path())
    quantize_inputs(model, {DENSE: 4 / SCALE_DIVISOR, **SCALES})
    return model


@pytest.fixture
def reached(monkeypatch):
    seen = []
    monkeypatch.setattr(w4a4, "quantize_activations", lambda inputs, scale: seen.append(inputs.clone()) or inputs)
    return seen


def ask(model):
    """Its packed dense layer and its packed experts, once, the same numbers each time."""
    width = model.thinker.config.text_config.hidden_size
    given = torch.randn(64, width, generator=torch.Generator().manual_seed(3)).bfloat16()
    chosen, shares = torch.arange(64).remainder(8).unsqueeze(1), torch.ones(64, 1, dtype=torch.bfloat16)
    with torch.inference_mode():
        model.get_submodule(DENSE)(given)
        model.get_submodule(EXPERTS)(given, chosen, shares)


def test_noise_moves_some_inputs_by_one_step_before_they_are_rounded(prepared, reached):
    ask(prepared)
    without = list(reached)
    reached.clear()
    add_noise(prepared, 1)
    ask(prepared)
    assert len(reached) == len(without) == 1 + 2 * 8, "the dense layer; each expert's input and what its down_proj gets"
    for number in (0, 1, 3, 5):  # inputs that do not come from moved ones
        before, after = without[number].float(), reached[number].float()
        step = torch.exp2(before.abs().log2().floor() - 7)
        assert ((after - before).abs() <= step).all()
        moved = (after != before).float().mean()
        assert 0.25 < moved < 0.31, "1 - 1/(2 ln 2) of them; the others round back"


def test_noise_is_that_of_its_seed_and_drawn_again_each_time(reached):
    found = []
    for seed in (1, 1, 2):
        model = load_model(checkpoint_path())
        quantize_inputs(model, {DENSE: 4 / SCALE_DIVISOR, **SCALES})
        add_noise(model, seed)
        reached.clear()
        ask(model)
        ask(model)
        found.append(list(reached))
    first, same, other = found
    assert all(torch.equal(one, two) for one, two in zip(first, same, strict=True))
    assert not any(torch.equal(one, two) for one, two in zip(first, other, strict=True))
    assert not any(torch.equal(one, two) for one, two in zip(first[:17], first[17:], strict=True))


NOT_PACKED = (
    "thinker.visual.blocks.0.attn.qkv",
    "thinker.audio_tower.layers.0.fc1",
    "thinker.model.layers.0.mlp.gate",
    "thinker.model.layers.1.mlp.experts",
    "thinker.lm_head",
)


def test_noise_reaches_towers_routers_and_experts_that_are_not_packed(prepared, conversations):
    """An engine computes all of them otherwise, not only what is packed."""
    inputs = [conversation_inputs(ModelHandle(checkpoint_path()).processor, one) for one in conversations]
    seen = {name: [] for name in NOT_PACKED}

    def keep(name):
        return lambda _, __, output: seen[name].append((output[0] if isinstance(output, tuple) else output).clone())

    for name in NOT_PACKED:
        prepared.get_submodule(name).register_forward_hook(keep(name))
    with torch.inference_mode():
        for one in inputs:
            if set(one) & {"pixel_values", "input_features"}:
                thinker_step(prepared, one)
        clean = {name: list(outputs) for name, outputs in seen.items()}
        for outputs in seen.values():
            outputs.clear()
        add_noise(prepared, 1)
        for one in inputs:
            if set(one) & {"pixel_values", "input_features"}:
                thinker_step(prepared, one)
    for name in NOT_PACKED:
        assert clean[name], f"{name} never ran"
        assert not any(torch.equal(one, two) for one, two in zip(clean[name], seen[name], strict=True)), name
