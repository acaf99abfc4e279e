"""The model and its prompts.

The same questions to the original and to the packed tiny model, by transformers' own `generate` and by ours.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from outcomes import Outcome

pytestmark = [pytest.mark.tiny, pytest.mark.filterwarnings("ignore:Passing `repetition_penalty`")]

_REASON = "needs the quantize extra: pip install pytest-q3omni[quantize]"
pytest.importorskip("torch", reason=_REASON)
pytest.importorskip("transformers", reason=_REASON)

from pytest_q3omni.engines.handle import ModelHandle  # noqa: E402
from pytest_q3omni.engines.transformers import prompt_inputs  # noqa: E402
from pytest_q3omni.omni.conversations import load_conversations  # noqa: E402
from pytest_q3omni.omni.tiny import checkpoint_path, conversations_path  # noqa: E402

PLAIN = "Hello! How are you today?"
CHATML = f"<|im_start|>user\n{PLAIN}<|im_end|>\n<|im_start|>assistant\n"
TORCH_CAT = "expected a non-empty list of Tensors"


@pytest.fixture(autouse=True)
def releases(outcome: Outcome) -> None:
    outcome.uses("transformers")


@pytest.fixture(scope="module")
def original() -> Iterator[ModelHandle]:
    with closing(ModelHandle(checkpoint_path())) as handle:
        yield handle


@pytest.fixture(scope="module")
def quantized(packed: Path) -> Iterator[ModelHandle]:
    with closing(ModelHandle(packed)) as handle:
        yield handle


def spoken(handle: ModelHandle, prompt: str) -> Exception | None:
    """What transformers' `generate` raises when this prompt has to be spoken to; None where it speaks."""
    inputs = prompt_inputs(handle.processor, prompt, device=handle.device)
    options = {"thinker_max_new_tokens": 8, "talker_max_new_tokens": 8, "talker_do_sample": False}
    with handle.loaded(speech=True) as model:
        options["thinker_eos_token_id"] = model.config.im_end_token_id
        try:
            model.generate(**inputs, return_audio=True, thinker_do_sample=False, **options)
        except Exception as error:  # noqa: BLE001  # whichever it is, the test compares it
            return error
    return None


def test_talker_generates_text(outcome: Outcome, original: ModelHandle) -> None:
    """The talker generates the text."""
    asked = next(
        item for item in load_conversations(conversations_path()) if item.answered and item.modalities == {"text"}
    )
    with original.loaded(speech=False) as model:
        assert not hasattr(model, "talker")
    text = original.generate(asked).text
    answer = "".join(part["text"] for part in asked.messages[-1]["content"])
    finding = f"""The thinker does: with no talker in memory it answers "{text}", which is right. The talker turns the
        answer into codes of speech."""
    with outcome.refutes(finding):
        assert text != answer


def test_both_fail_identically(outcome: Outcome, original: ModelHandle, quantized: ModelHandle) -> None:
    """Original and quantized model fail identically with a plain-text prompt: it is not the quantization."""
    theirs, ours = spoken(original, PLAIN), spoken(quantized, PLAIN)
    with outcome.confirms(f"Both raise `{type(ours).__name__}` where they are to speak, in the same words."):
        assert theirs is not None
        assert (type(theirs), str(theirs)) == (type(ours), str(ours))


def test_torch_cat(outcome: Outcome, original: ModelHandle) -> None:
    """A plain-text prompt fails with `torch.cat(): expected a non-empty list of Tensors`."""
    plain = spoken(original, PLAIN)
    finding = f"""Today it is `{type(plain).__name__}: {plain}`: the words change with transformers' releases, the cause
        does not. So what is judged here is the prompt, not the error."""
    with outcome.refutes(finding):
        assert TORCH_CAT in str(plain)


def test_chatml_needed_for_speech(outcome: Outcome, original: ModelHandle, quantized: ModelHandle) -> None:
    """The cause are missing role markers (ChatML), and with them the quantized model works."""
    with outcome.confirms("With the two markers both speak; nothing else was changed."):
        assert spoken(original, PLAIN) is not None
        assert spoken(original, CHATML) is None
        assert spoken(quantized, CHATML) is None


def test_chatml_needed_for_text(outcome: Outcome, original: ModelHandle, quantized: ModelHandle) -> None:
    """The model requires ChatML."""
    tokens = [len(handle.generate(PLAIN, max_new_tokens=8).tokens) for handle in (original, quantized)]
    finding = f"""Only to speak. Asked for text alone, it continues a plain prompt without an error: {tokens[0]} tokens,
        packed {tokens[1]}."""
    with outcome.refutes(finding):
        assert not all(tokens)
