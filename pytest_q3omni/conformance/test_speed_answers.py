"""How fast a model answers on transformers. Skipped unless asked for: `--benchmark-only`.

transformers knows no packed weights: ours are dequantized when the model opens, and inputs are rounded in torch. So
these figures say what judging a checkpoint costs here, never what NVFP4 gains in an engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_q3omni.conformance._speed import Baseline, describe, measure, tokens_per_second

if TYPE_CHECKING:
    from pytest_q3omni.engines.handle import ModelHandle
    from pytest_q3omni.omni.conversations import Conversation

_TOKENS = 32
_PACKAGES = ("torch", "transformers")
_HARDWARE = [pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in ("gpu", "thor")]


@pytest.fixture
def one_thread() -> Iterator[int]:
    """torch on one thread: on matrices as small as the tiny model's, more threads wait for each other."""
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'pytest-q3omni[quantize]'")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield 1
    torch.set_num_threads(before)


def _packed(numerics: Any, quantized: Path, original: Path, conversation: Conversation) -> ModelHandle:
    """The packed twin, or the original with ModelOpt's quantizers in it."""
    from pytest_q3omni.engines.handle import ModelHandle

    if numerics != "fake-quant":
        return ModelHandle(quantized, numerics=numerics, device="cpu")
    pytest.importorskip("modelopt", reason="needs ModelOpt: pip install 'pytest-q3omni[quantize]'")
    from pytest_q3omni import api
    from pytest_q3omni.engines.plain_nvfp4 import PlainNVFP4
    from pytest_q3omni.engines.transformers import conversation_inputs, thinker_step

    def calibrate(model: Any) -> None:
        thinker_step(model, conversation_inputs(handle.processor, conversation))

    (plan,) = api.plan(original, ["nvfp4-default"])
    handle = PlainNVFP4(original, plan.tensors, calibrate, device="cpu")
    return handle


def _writer(handle: ModelHandle, model: Any, conversation: Conversation) -> Callable[[], tuple[int, ...]]:
    """A function that writes `_TOKENS` tokens greedily, past the end of the answer: the tiny model's have three."""
    import torch

    from pytest_q3omni.engines.answers import question
    from pytest_q3omni.engines.transformers import conversation_inputs

    inputs = conversation_inputs(handle.processor, question(conversation))

    def write() -> tuple[int, ...]:
        with torch.inference_mode():
            made = model.generate(
                **inputs, return_audio=False, thinker_do_sample=False, thinker_max_new_tokens=_TOKENS,
                thinker_min_new_tokens=_TOKENS, thinker_eos_token_id=model.config.im_end_token_id,
            )  # fmt: skip
        sequence = getattr(made, "sequences", made)[0, inputs["input_ids"].shape[1] :]
        return tuple(sequence.tolist())

    return write


@pytest.mark.tiny
@pytest.mark.benchmark(group="writing text on transformers, tiny model")
@pytest.mark.parametrize("numerics", ["w4a16", "w4a4", "fake-quant"])
def test_writing(
    benchmark: Any, numerics: str, one_thread: int, original_model: ModelHandle, quantized_checkpoint: Path,
    conversation: Conversation,
) -> None:  # fmt: skip
    """Tokens per second against the original in BF16; `fake-quant` is ModelOpt's, weights and inputs, on the CPU."""
    from pytest_q3omni.engines.handle import ModelHandle

    original = ModelHandle(original_model.path, device="cpu")
    packed = _packed(numerics, quantized_checkpoint, original.path, conversation)
    with ExitStack() as stack:
        for handle in (original, packed):
            stack.enter_context(closing(handle))
        reference = _writer(original, stack.enter_context(original.loaded(speech=False)), conversation)
        work = _writer(packed, stack.enter_context(packed.loaded(speech=False)), conversation)
        baseline = Baseline("the original in BF16 (transformers)", reference)
        tokens = measure(
            benchmark, work, baseline, tokens_per_second(_TOKENS), rounds=15,
            packages=(*_PACKAGES, "nvidia-modelopt") if numerics == "fake-quant" else _PACKAGES,
            tokens=_TOKENS, torch_threads=one_thread,
        )  # fmt: skip
        assert len(tokens) == _TOKENS
        assert tokens[:2] == reference()[:2], "not the answer of the original"


@pytest.mark.parametrize("hardware", _HARDWARE)
@pytest.mark.benchmark(group="answering on transformers")
def test_answering(benchmark: Any, hardware: str, quantized_model: ModelHandle, conversation: Conversation) -> None:
    """Your checkpoint, eagerly: a floor, not what an engine makes of it. No baseline: two models need more room."""
    from pytest_q3omni.engines.device import probe

    answer = quantized_model.generate(conversation, max_new_tokens=_TOKENS)  # opens the model and warms it up
    benchmark.pedantic(quantized_model.generate, args=(conversation,), kwargs={"max_new_tokens": _TOKENS}, rounds=5)
    describe(
        benchmark, tokens_per_second(len(answer.tokens)), packages=_PACKAGES, device=str(probe()), marker=hardware,
        tokens=len(answer.tokens), numerics=quantized_model.numerics,
    )  # fmt: skip
