"""Does it answer? The tiny model knows its answers; yours has to say something, and to be heard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_q3omni.assertions import assert_chatml
from pytest_q3omni.conformance._pairs import pytest_generate_tests  # noqa: F401  # parametrizes `runner`

if TYPE_CHECKING:
    from pytest_q3omni.engines.handle import ModelHandle
    from pytest_q3omni.omni.conversations import Conversation

_READERS = {"text": (), "image": ("PIL",), "audio": ("soundfile", "soxr")}
_SILENCE = 1e-4  # root mean square of a waveform in [-1, 1]; 16-bit audio cannot hold much less


def _tiny(modality: str) -> Conversation:
    """The first of the tiny model's answered conversations with this modality."""
    from pytest_q3omni.omni.conversations import load_conversations
    from pytest_q3omni.omni.tiny import conversations_path

    for reader in _READERS[modality]:
        pytest.importorskip(reader, reason=f"needs {reader}: pip install 'pytest-q3omni[quantize]'")
    found = load_conversations(conversations_path())
    return next(each for each in found if each.answered and modality in each.modalities)


@pytest.mark.tiny
@pytest.mark.parametrize("modality", ["text", "image", "audio"])
def test_the_tiny_original_knows_its_answers(modality: str, original_model: ModelHandle) -> None:
    """It was trained to; a damaged installation or another rounding would show here first."""
    asked = _tiny(modality)
    assert original_model.generate(asked).text == asked.messages[-1]["content"][0]["text"]


@pytest.mark.tiny
@pytest.mark.parametrize("modality", ["text", "image", "audio"])
def test_the_tiny_twin_prefers_the_same_answers(modality: str, quantized_model: ModelHandle) -> None:
    """Packed weights and 4-bit activations leave the right tokens likely: better than even, every one."""
    found = quantized_model.logprobs(_tiny(modality))
    assert quantized_model.numerics == "w4a4"
    assert found.of_answer.min() > -0.69


@pytest.mark.usefixtures("runner")
def test_the_prompt_has_the_roles(omni_processor: Any, conversation: Conversation) -> None:
    """Text does not notice where they are missing; speech ends in an IndexError far from the cause."""
    from pytest_q3omni.engines.transformers import render_prompt

    assert_chatml(render_prompt(omni_processor, conversation))


@pytest.mark.usefixtures("runner")
def test_text(quantized_model: ModelHandle, conversation: Conversation) -> None:
    """Something is said."""
    assert quantized_model.generate(conversation, max_new_tokens=64).text.strip()


@pytest.mark.usefixtures("runner")
def test_speech(quantized_model: ModelHandle, conversation: Conversation) -> None:
    """Something is heard: a waveform without NaN that is not silence."""
    import numpy as np

    if not quantized_model.speaks:
        pytest.skip(f"{quantized_model.path} is a thinker alone: it does not speak")
    answer = quantized_model.generate(conversation, max_new_tokens=64, speech=True)
    assert answer.waveform is not None
    assert np.isfinite(answer.waveform).all()
    assert np.sqrt(np.mean(np.square(answer.waveform))) > _SILENCE
