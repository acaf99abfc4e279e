"""A prompt without role markers: text does not notice, speech fails, and packed weights have no part in it.

An error from inside the model, right after its weights were packed, looks like the packing's fault. These items put the
same prompts to the original and to the quantized model: both fail alike without the markers, and both speak with them.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from pytest_q3omni.assertions import assert_chatml
from pytest_q3omni.conformance._pairs import pytest_generate_tests  # noqa: F401  # parametrizes `runner`
from pytest_q3omni.errors import NotChatML

if TYPE_CHECKING:
    from pytest_q3omni.engines.handle import ModelHandle

_PLAIN = "Tell me a story."
_CHATML = f"<|im_start|>user\n{_PLAIN}<|im_end|>\n<|im_start|>assistant\n"
_PROMPTS = {
    "no markers": _PLAIN,
    "no user marker": f"{_PLAIN}\n<|im_start|>assistant\n",
    "no assistant marker": f"<|im_start|>user\n{_PLAIN}<|im_end|>\n",
}

_FAILURES: dict[str, dict[str, type[Exception]]] = {
    release: {"no markers": IndexError, "no user marker": RuntimeError, "no assistant marker": IndexError}
    for release in ("5.16", "5.17", "5.18", "5.19")
}
"""transformers' release -> what speech raises. 4.57 raised RuntimeError (torch.cat) for all; it is not supported."""


@pytest.fixture(params=["original", "quantized"], scope="module")  # module: all items of one model, then of the other
def which(request: pytest.FixtureRequest) -> str:
    """The checkpoint that is asked."""
    return str(request.param)


@pytest.fixture
def model(which: str, request: pytest.FixtureRequest) -> ModelHandle:
    """It as a handle; a thinker alone has nothing to fail."""
    handle: ModelHandle = request.getfixturevalue(f"{which}_model")
    if not handle.speaks:
        pytest.skip(f"{handle.path} is a thinker alone: it does not speak")
    return handle


@pytest.fixture(params=list(_PROMPTS))
def prompt_name(request: pytest.FixtureRequest) -> str:
    """What the prompt lacks."""
    return str(request.param)


@pytest.mark.usefixtures("runner")
def test_text_accepts_a_plain_prompt(model: ModelHandle) -> None:
    """It is completed as any text is: that text works says nothing about speech."""
    assert model.generate(_PLAIN, max_new_tokens=8).tokens


@pytest.mark.usefixtures("runner")
@pytest.mark.filterwarnings("ignore:Passing `repetition_penalty`")
def test_the_model_itself_fails_on_speech_without_role_markers(model: ModelHandle, prompt_name: str) -> None:
    """transformers' own `generate`, without this package's guard: the same failure with original and packed weights."""
    from pytest_q3omni.engines.transformers import prompt_inputs

    release, failures = version("transformers"), _FAILURES.get(".".join(version("transformers").split(".")[:2]))
    if failures is None:
        pytest.fail(
            f"transformers {release} is not among {', '.join(_FAILURES)}; supported: >=5.16,<5.20. To support it, see "
            f"what speech raises for each prompt of this module, and add a line to _FAILURES in {__file__}",
            pytrace=False,
        )
    inputs = prompt_inputs(model.processor, _PROMPTS[prompt_name], device=model.device)
    with model.loaded(speech=True) as loaded, pytest.raises(Exception) as caught:  # noqa: PT011  # judged below
        loaded.generate(
            **inputs, return_audio=True, thinker_max_new_tokens=8, thinker_do_sample=False, talker_do_sample=False,
            thinker_eos_token_id=loaded.config.im_end_token_id, talker_max_new_tokens=8,
        )  # fmt: skip
    assert type(caught.value) is failures[prompt_name]


@pytest.mark.usefixtures("runner")
def test_the_handle_names_the_prompt_before_the_model_runs(model: ModelHandle, prompt_name: str) -> None:
    """One line that names the missing marker and the remedy."""
    with pytest.raises(NotChatML, match=r"no `<\|im_start\|>(user|assistant)`.*Fix: .*apply_chat_template"):
        model.generate(_PROMPTS[prompt_name], speech=True)


@pytest.mark.usefixtures("runner")
def test_both_speak_with_role_markers(model: ModelHandle) -> None:
    """The same question with its roles: the only thing that changed is the prompt."""
    assert_chatml(_CHATML)
    answer = model.generate(_CHATML, max_new_tokens=16, speech=True)
    assert answer.waveform is not None
    assert answer.waveform.size


@pytest.mark.tiny
def test_the_assertion_says_so_without_a_model(prompt_name: str) -> None:
    """`assert_chatml` judges the prompt alone, so that a test suite finds it without weights."""
    with pytest.raises(AssertionError, match=r"no `<\|im_start\|>(user|assistant)`"):
        assert_chatml(_PROMPTS[prompt_name])
