"""The roofline: against a second computation, against our own measurements, and what must hold for any numbers."""

from math import inf, nan

import pytest
from decoders import full_decoder
from hypothesis import given
from hypothesis import strategies as st

from pytest_q3omni.errors import InvalidRequest
from pytest_q3omni.serve.hardware import DEVICES, Hardware
from pytest_q3omni.serve.roofline import distinct_experts, predict_decode, predict_prefill

pytestmark = pytest.mark.tiny

RECIPES = ("bf16", "nvfp4-default", "nvfp4-mlp-weight-only")
AT_ONCE = (1, 8, 32, 64)
# facts: vLLM 0.26.0, one H100 SXM, random weights, 128 tokens in, 256 out; tokens per second of whole runs
MEASURED = {"bf16": (195, 658, 1505, 2647), "nvfp4-default": (219, 1116, 2961, 4982)}
THOR, H100, B200 = DEVICES["Jetson AGX Thor"], DEVICES["H100 SXM"], DEVICES["B200"]

devices = st.sampled_from(sorted(DEVICES)).map(DEVICES.__getitem__)
recipes = st.sampled_from(RECIPES)


def by_hand(recipe: str, at_once: int, context: int, bandwidth: float) -> float:
    """Tokens per second of a step that the memory bounds, from the config's numbers alone."""
    layers, hidden, q, kv, experts, chosen, inner, vocabulary = 48, 2048, 32 * 128, 4 * 128, 128, 8, 768, 152064
    packed, scales = 4.5 / 8, {"bf16": 0, "nvfp4-default": 8, "nvfp4-mlp-weight-only": 4}[recipe]
    expert = 3 * (hidden * inner * (2 if recipe == "bf16" else packed) + scales)
    touched = 0.0
    for _ in range(at_once):  # a token takes `chosen` experts, of which some have been taken before
        touched += chosen * (experts - touched) / experts
    attention = hidden * (2 * q + 2 * kv) * (packed if recipe == "nvfp4-default" else 2)
    attention += 4 * 8 if recipe == "nvfp4-default" else 0
    layer = attention + touched * expert + 2 * hidden * experts + 2 * (2 * hidden + 2 * 128)
    cache = 2 * layers * kv * 2 * (context + 1) * at_once
    total = layers * layer + 2 * hidden * vocabulary + 2 * hidden + 2 * hidden * at_once + cache
    return at_once / (total / bandwidth)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("at_once", AT_ONCE)
def test_decoding_is_what_a_second_computation_gives(recipe: str, at_once: int) -> None:
    found = predict_decode(full_decoder(recipe), THOR, at_once=at_once, context=256)
    assert found.bound == "memory"
    assert found.tokens_per_second == pytest.approx(by_hand(recipe, at_once, 256, 273e9), rel=1e-12)


@pytest.mark.parametrize("recipe", MEASURED)
@pytest.mark.parametrize(("place", "at_once"), list(enumerate(AT_ONCE)))
def test_no_measured_figure_lies_above_the_roofline(recipe: str, place: int, at_once: int) -> None:
    figure = MEASURED[recipe][place]
    found = predict_decode(full_decoder(recipe), H100, at_once=at_once, context=128 + 256 / 2)
    assert found.tokens_per_second > figure
    assert found.percent(figure) == pytest.approx(100 * figure / by_hand(recipe, at_once, 256, 3350e9), rel=1e-12)


def test_what_our_measurements_were_of_the_roofline_at_one() -> None:
    """A third of the bandwidth in BF16; in NVFP4 14 %, since lm_head is read in BF16, which a count of packed weights
    alone (11 %) leaves out."""
    percents = [
        predict_decode(full_decoder(recipe), H100, at_once=1, context=256).percent(MEASURED[recipe][0])
        for recipe in MEASURED
    ]
    assert percents == pytest.approx([35.6, 14.4], abs=0.1)


def test_prefill_is_what_a_second_computation_gives() -> None:
    """Long prompts are bound by the tensor cores: their operations, and nothing else, decide."""
    tokens, (heads, head) = 8192, (32, 128)
    matrices = 48 * (2048 * (2 * 4096 + 2 * 512) + 8 * 3 * 2048 * 768 + 2048 * 128)
    attention = sum(4 * 48 * heads * head * seen for seen in range(1, tokens + 1))
    lm_head = 2 * 2048 * 152064
    found = predict_prefill(full_decoder("bf16"), H100, prompt_tokens=tokens)
    assert found.bound == "compute"
    assert found.flops == pytest.approx(2 * matrices * tokens + attention + lm_head, rel=1e-12)
    assert found.step_seconds == pytest.approx(found.flops / 989.5e12, rel=1e-12)
    both = predict_prefill(full_decoder("bf16"), H100, prompt_tokens=tokens, at_once=2)
    assert both.flops == pytest.approx(2 * found.flops, rel=1e-12)


def test_w4a4_runs_at_fp4_where_there_is_fp4_and_w4a16_never_does() -> None:
    rates = {recipe: predict_prefill(full_decoder(recipe), B200, prompt_tokens=8192) for recipe in RECIPES}
    assert "fp4" in rates["nvfp4-default"].parts["experts"].flops
    assert set(rates["nvfp4-mlp-weight-only"].parts["experts"].flops) == {"bf16"}
    assert rates["nvfp4-default"].tokens_per_second > 1.5 * rates["bf16"].tokens_per_second
    assert rates["nvfp4-mlp-weight-only"].step_seconds == pytest.approx(rates["bf16"].step_seconds)
    hopper = [predict_prefill(full_decoder(recipe), H100, prompt_tokens=8192).step_seconds for recipe in RECIPES]
    assert hopper == pytest.approx([hopper[0]] * 3)


def test_experts_that_a_batch_touches() -> None:
    decoder = full_decoder("bf16")
    assert distinct_experts(decoder, 1) == pytest.approx(8)
    assert distinct_experts(decoder, 2) == pytest.approx(8 + 8 * 120 / 128)
    assert distinct_experts(decoder, 10_000) == pytest.approx(128)


@given(recipes, devices, st.integers(1, 512), st.integers(0, 30_000), st.integers(1, 64), st.integers(1, 1000))
def test_more_at_once_or_more_context_takes_longer(
    recipe: str, device: Hardware, at_once: int, context: int, more: int, longer: int
) -> None:
    decoder = full_decoder(recipe)
    base = predict_decode(decoder, device, at_once=at_once, context=context)
    wider = predict_decode(decoder, device, at_once=at_once + more, context=context)
    deeper = predict_decode(decoder, device, at_once=at_once, context=context + longer)
    assert base.step_seconds < wider.step_seconds
    assert base.tokens_per_second < wider.tokens_per_second * (1 + 1e-9)  # a batch shares the reading of weights
    assert base.step_seconds < deeper.step_seconds
    assert base.tokens_per_second > deeper.tokens_per_second


@given(recipes, devices, st.integers(1, 512), st.integers(1, 30_000), st.booleans())
def test_no_prediction_beats_the_device(
    recipe: str, device: Hardware, at_once: int, tokens: int, prefill: bool
) -> None:
    decoder = full_decoder(recipe)
    if prefill:
        found = predict_prefill(decoder, device, prompt_tokens=tokens, at_once=1 + at_once % 4)
    else:
        found = predict_decode(decoder, device, at_once=at_once, context=tokens)
    most = max(peak for peak in (device.bf16, device.fp8, device.fp4) if peak)
    assert found.bytes / found.step_seconds <= device.bandwidth * (1 + 1e-12)
    assert found.flops / found.step_seconds <= most * (1 + 1e-12)
    assert found.bytes == pytest.approx(sum(cost.bytes for cost in found.parts.values()))
    assert found.percent(found.tokens_per_second) == pytest.approx(100)


@given(recipes, devices, st.integers(1, 64), st.integers(1, 30_000))
def test_a_longer_prompt_takes_longer(recipe: str, device: Hardware, at_once: int, tokens: int) -> None:
    decoder = full_decoder(recipe)
    shorter = predict_prefill(decoder, device, prompt_tokens=tokens, at_once=at_once)
    assert (
        shorter.step_seconds < predict_prefill(decoder, device, prompt_tokens=tokens + 64, at_once=at_once).step_seconds
    )


@pytest.mark.parametrize(("at_once", "context"), [(0, 1), (-1, 1), (1, -1), (nan, 1), (1, nan), (1, inf)])
def test_senseless_requests_are_refused(at_once: int, context: float) -> None:
    with pytest.raises(InvalidRequest, match=r"at_once is|context is"):
        predict_decode(full_decoder("bf16"), THOR, at_once=at_once, context=context)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="prompt_tokens is 0"):
        predict_prefill(full_decoder("bf16"), THOR, prompt_tokens=0)


@pytest.mark.parametrize("figure", [0, -1.0, nan, inf])
def test_per_cent_of_no_figure_is_refused(figure: float) -> None:
    with pytest.raises(InvalidRequest, match="tokens per second"):
        predict_decode(full_decoder("bf16"), THOR, at_once=1, context=0).percent(figure)
