"""How likely a given speech is: transformers' own `generate` runs once more, and every choice is made for it.

So the talker's input is built by transformers' code, whichever release is installed, and not by a copy of it. Three
generations are nested: the thinker's is forced to the text, the talker's to the first codebook, and the code
predictor's, once for each frame, to the other codebooks. The waveform is left out: it is a function of the codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_q3omni.engines.answers import SpeechLogprobs, greedy, question, stand_in
from pytest_q3omni.engines.transformers import PROMPT, conversation_inputs, one_line
from pytest_q3omni.errors import EngineError, InvalidRequest
from pytest_q3omni.omni.chatml import check_chatml
from pytest_q3omni.omni.conversations import Conversation

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


def check_speech(asked: Conversation | str, tokens: int) -> None:
    """Return if an answer of at most `tokens` tokens to this question can be spoken; asks no model.

    Raises:
        NotChatML: a prompt without role markers, which the talker looks for.
        InvalidRequest: fewer than two tokens: the talker begins with the first, and the last is never spoken.
        EngineError: sound and pictures in one conversation, which transformers cannot speak about.
    """
    where = PROMPT if isinstance(asked, str) else asked.id
    if isinstance(asked, str):
        check_chatml(asked, where=where)
    elif {"audio", "image"} <= asked.modalities:
        raise EngineError(
            "transformers cannot speak about sound and pictures in one conversation (5.16 to 5.19: its talker looks "
            "for an `audio_config` that its config does not have)", where=where, expected="sound or pictures",
            fix="ask without speech, or put sound and pictures into conversations of their own",
        )  # fmt: skip
    if tokens < 2:
        raise InvalidRequest(
            f"speech of an answer of {tokens} tokens", where=where, expected="at least 2: one to speak and the end",
            fix="raise max_new_tokens, or ask without speech",
        )  # fmt: skip


def speech_logprobs(
    model: Any, processor: Any, conversation: Conversation, device: str, tokens: Sequence[int], codes: Any
) -> SpeechLogprobs:
    """Log-probabilities of `codes`, integers (codebooks, frames), that speak an answer whose text is `tokens`.

    An answer that the conversation already holds is left out.
    The values are the model's own distribution over whole vocabularies: without the repetition penalty, and with the
    ids that `generate` never lets it say. The step that ends the speech has no frame, so it is left out; the
    probability to end is in the first codebook's values, at every frame.

    Raises:
        InvalidRequest: codes of another shape, or none that code2wav knows.
        NotChatML, Unreadable: see `conversation_inputs`. EngineError: transformers fails; its error is the cause.
    """
    import numpy as np
    import torch

    where, given = conversation.id, _checked(codes, model.config, conversation.id)
    inputs = conversation_inputs(processor, question(conversation), device=device)
    text, first = _Forced(tokens), _Watched([*given[0].tolist(), model.config.talker_config.codec_eos_token_id])
    with _forced_predictor(model.talker.code_predictor, given[1:]) as frames, _no_waveform(model.code2wav):
        greedy(
            model, inputs, where, return_audio=True,
            thinker_max_new_tokens=len(text.tokens), thinker_logits_processor=[text],
            talker_max_new_tokens=len(first.tokens), talker_logits_processor=[first],
            # a processor sees the scores after generate's own, and these two would change them
            talker_repetition_penalty=1.0, talker_suppress_tokens=None,
        )  # fmt: skip
    others = [torch.stack([frame.seen[number] for frame in frames]) for number in range(len(given) - 1)]
    values = [torch.stack(first.seen[:-1]), *others]
    return SpeechLogprobs(given, tuple(np.asarray(value) for value in values))


def waveform(model: Any, codes: Any, device: str, where: str) -> NDArray[np.float32]:
    """What code2wav makes of codes (codebooks, frames): float32 (samples,) at 24 kHz, in the chunks of `generate`.

    Raises:
        InvalidRequest: codes of another shape, or none that code2wav knows. EngineError: transformers fails.
    """
    import numpy as np
    import torch

    given = torch.from_numpy(_checked(codes, model.config, where)).to(device)[None]
    try:
        with torch.inference_mode():
            made = model.code2wav.chunked_decode(given, chunk_size=300, left_context_size=25)
    except Exception as error:  # whatever a foreign library raises, it becomes the cause of ours
        raise EngineError(f"code2wav fails ({one_line(error)})", where=where) from error
    return np.asarray(made.float().cpu()).reshape(-1)


class _Forced:
    """A logits processor that leaves one token possible at each step: the next of `tokens`."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = tokens
        self._next = iter(tokens)

    def __call__(self, _: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        only = scores.new_full(scores.shape, float("-inf"))
        only[:, next(self._next)] = 0
        return only


class _Watched(_Forced):
    """Keeps the log-probabilities that it overrules: one tensor (vocabulary,) a step, float32 on the CPU."""

    def __init__(self, tokens: Sequence[int]) -> None:
        super().__init__(tokens)
        self.seen: list[torch.Tensor] = []

    def __call__(self, _: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.seen.append(scores[0].float().log_softmax(-1).cpu())
        return super().__call__(_, scores)


def _checked(codes: Any, config: Any, where: str) -> NDArray[np.int64]:
    import numpy as np

    given = np.asarray(codes)
    books, size = config.talker_config.num_code_groups, config.code2wav_config.codebook_size
    expected = f"integers of the shape ({books}, frames), from 0 to {size - 1}"
    fix = "take the codes of an answer of this model: generate(..., speech=True).codes"
    if given.dtype.kind not in "iu" or given.ndim != 2 or given.shape[0] != books or not given.shape[1]:
        raise InvalidRequest(f"codes {given.dtype} {given.shape}", where=where, expected=expected, fix=fix)
    if given.min() < 0 or given.max() >= size:
        found = f"codes from {given.min()} to {given.max()}"
        raise InvalidRequest(found, where=where, expected=expected, fix=fix)
    return given.astype(np.int64)


@contextmanager
def _forced_predictor(predictor: Any, codes: NDArray[np.int64]) -> Iterator[list[_Watched]]:
    """The code predictor says `codes` (codebooks, frames), one frame at each call; yields what it saw at each."""
    frames: list[_Watched] = []
    generate: Callable[..., Any] = predictor.generate

    def forced(*arguments: Any, **options: Any) -> Any:
        frames.append(_Watched(codes[:, len(frames)].tolist()))
        return generate(*arguments, **options, logits_processor=[frames[-1]])

    with stand_in(predictor, "generate", forced):
        yield frames


@contextmanager
def _no_waveform(code2wav: Any) -> Iterator[None]:
    """The most expensive stage makes nothing: an empty waveform (1, 1, 0)."""

    def silence(codes: torch.Tensor, **_: Any) -> torch.Tensor:
        return codes.new_zeros((1, 1, 0))

    with stand_in(code2wav, "chunked_decode", silence):
        yield
