"""Questions to an open model: answers in text and speech, and log-probabilities of a given answer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_q3omni.engines.transformers import (
    PROMPT,
    Inputs,
    conversation_inputs,
    one_line,
    prompt_inputs,
    thinker_step,
)
from pytest_q3omni.errors import EngineError
from pytest_q3omni.omni.conversations import Conversation
from pytest_q3omni.omni.processor import quiet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Answer:
    """What a model said. tokens: with the end of turn, if it came to it. Speech: waveform float32 (samples,) at 24 kHz,
    codes int64 (codebooks, frames); None where none was asked for.
    """

    text: str
    tokens: tuple[int, ...]
    waveform: NDArray[np.float32] | None = None
    codes: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Logprobs:
    """Teacher-forced log-probabilities of an answer: tokens int64 (n,), values float32 (n, vocabulary)."""

    tokens: NDArray[np.int64]
    values: NDArray[np.float32]

    @property
    def of_answer(self) -> NDArray[np.float32]:
        """Log-probability of each token of the answer, (n,)."""
        return self.values[range(len(self.tokens)), self.tokens]


@dataclass(frozen=True)
class SpeechLogprobs:
    """Teacher-forced log-probabilities of speech: codes int64 (codebooks, frames), and for each codebook values float32
    (frames, its vocabulary). The first codebook is the talker's, the others are the code predictor's.
    """

    codes: NDArray[np.int64]
    values: tuple[NDArray[np.float32], ...]


def question(conversation: Conversation) -> Conversation:
    """The conversation without the assistant's last word."""
    return replace(conversation, messages=conversation.messages[:-1]) if conversation.answered else conversation


def answer(
    model: Any, processor: Any, asked: Conversation | str, device: str, max_new_tokens: int, speech: bool
) -> Answer:
    """The greedy answer to a conversation whose last word is the user's, or to a prompt as it is.

    Raises:
        EngineError: transformers fails; its error is the cause.
    """
    import numpy as np

    if isinstance(asked, str):
        where, inputs = PROMPT, prompt_inputs(processor, asked, device=device)
    else:
        where, inputs = asked.id, conversation_inputs(processor, asked, device=device)
    with _codes_of(model, speech) as codes:
        made = greedy(model, inputs, where, return_audio=speech, thinker_max_new_tokens=max_new_tokens)
    written, waveform = made if speech else (made, None)
    sequence = getattr(written, "sequences", written)[0, inputs["input_ids"].shape[1] :]
    return Answer(
        text=processor.tokenizer.decode(sequence, skip_special_tokens=True),
        tokens=tuple(sequence.tolist()),
        waveform=None if waveform is None else np.asarray(waveform.float().cpu()).reshape(-1),
        codes=np.asarray(codes[0].cpu()) if codes else None,
    )


def greedy(model: Any, inputs: Inputs, where: str, *, return_audio: bool, **options: Any) -> Any:
    """What `model.generate` returns without sampling; `options` are its own.

    Raises:
        EngineError: transformers fails; its error is the cause.
    """
    import torch

    with quiet(), warnings.catch_warnings(), torch.inference_mode():
        warnings.filterwarnings("ignore", message="Passing `repetition_penalty` with `inputs_embeds`")  # the talker's
        try:
            return model.generate(
                **inputs, return_audio=return_audio, thinker_do_sample=False,
                # the defaults are the full-size model's end of turn, and codes drawn at random
                thinker_eos_token_id=model.config.im_end_token_id, talker_do_sample=False, **options,
            )  # fmt: skip
        except Exception as error:  # whatever a foreign library raises, it becomes the cause of ours
            fix = "ask without speech and look at the text: an answer of one token cannot be spoken"
            fix = fix if return_audio else ""
            raise EngineError(f"the model fails ({one_line(error)})", where=where, fix=fix) from error


@contextmanager
def stand_in(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """`function` in place of the method `name` of one object, until the block ends."""
    setattr(owner, name, function)
    try:
        yield
    finally:
        delattr(owner, name)  # the class's method shows again


@contextmanager
def _codes_of(model: Any, speech: bool) -> Iterator[list[Any]]:
    """Collects the codes (codebooks, frames) that the talker hands to code2wav; `generate` does not return them."""
    codes: list[Any] = []
    if not speech:
        yield codes
        return
    decode = model.code2wav.chunked_decode

    def listening(given: Any, *arguments: Any, **options: Any) -> Any:
        codes.append(given[0])
        return decode(given, *arguments, **options)

    with stand_in(model.code2wav, "chunked_decode", listening):
        yield codes


def logprobs(
    model: Any, processor: Any, conversation: Conversation, device: str, tokens: Sequence[int] | None = None
) -> Logprobs:
    """Log-probabilities at every token of an answer: of `tokens`, after the question; without them, of the answer that
    the conversation ends with, its end of turn included.

    Raises:
        NotChatML, Unreadable, InvalidRequest: see `conversation_inputs`.
        EngineError: transformers fails; its error is the cause.
    """
    import numpy as np
    import torch

    if tokens is None:
        inputs, start, stop = _answered(model, processor, conversation, device)
    else:
        inputs = conversation_inputs(processor, question(conversation), device=device)
        start = inputs["input_ids"].shape[1]
        inputs, stop = _appended(inputs, tokens), start + len(tokens)
    with quiet(), torch.inference_mode():
        try:
            logits = thinker_step(model, inputs).logits[0, start - 1 : stop - 1]
            values = logits.float().log_softmax(-1).cpu()
        except Exception as error:  # whatever a foreign library raises, it becomes the cause of ours
            raise EngineError(f"the model fails ({one_line(error)})", where=conversation.id) from error
    return Logprobs(np.asarray(inputs["input_ids"][0, start:stop].cpu()), np.asarray(values))


def _answered(model: Any, processor: Any, conversation: Conversation, device: str) -> tuple[Inputs, int, int]:
    """Inputs with the conversation's own answer, and where it starts and stops."""
    import torch

    inputs = conversation_inputs(processor, conversation, device=device)
    asked = conversation_inputs(processor, question(conversation), device="cpu")["input_ids"][0]
    tokens = inputs["input_ids"][0]
    start = len(asked)
    if not torch.equal(tokens[:start].cpu(), asked):
        raise EngineError(
            "the chat template writes another question once it is answered", where=conversation.id,
            expected="the question's tokens, then the answer's", fix="use the original model's chat template",
        )  # fmt: skip
    ends = (tokens[start:] == model.config.im_end_token_id).nonzero()
    return inputs, start, start + int(ends[0]) + 1 if len(ends) else len(tokens)


def _appended(inputs: Inputs, tokens: Sequence[int]) -> Inputs:
    """The inputs of a question with the tokens of an answer after it."""
    import torch

    ids = inputs["input_ids"]
    more = torch.tensor([list(tokens)], dtype=ids.dtype, device=ids.device)
    mask = inputs["attention_mask"]
    return {
        **inputs,
        "input_ids": torch.cat([ids, more], dim=1),
        "attention_mask": torch.cat([mask, mask.new_ones(more.shape)], dim=1),
    }
