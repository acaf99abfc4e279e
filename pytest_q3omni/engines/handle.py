"""A checkpoint as a model that opens when it is asked, and makes room when another one needs it.

The original runs as BF16. A packed checkpoint runs dequantized: "w4a16", or with its activations rounded, too: "w4a4".
Both run on transformers, experts one after another, so that what differs between two answers is the numbers alone.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_q3omni.engines.answers import Answer, Logprobs, SpeechLogprobs, answer, logprobs, question
from pytest_q3omni.engines.memory import available_bytes, gib
from pytest_q3omni.engines.packed import bf16_bytes, file_numerics, load_packed, packed_modules
from pytest_q3omni.engines.speech import check_speech, speech_logprobs, waveform
from pytest_q3omni.errors import EngineError, Inconsistent, InvalidRequest
from pytest_q3omni.omni.checkpoint import Checkpoint, open_checkpoint
from pytest_q3omni.omni.conversations import Conversation, Messages, parse_conversation
from pytest_q3omni.omni.stages import expected_tensors, stage_of
from pytest_q3omni.records import Numerics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MOST_DESCRIBED = 2  # times what is stored: a few missing tensors are named later, one by one
_HEADROOM = 1.1  # activations and the largest tensor while it is converted
_OPEN: list[ModelHandle] = []  # least recently used first; memory belongs to the process, and so does this list


class ModelHandle:
    """A lazy model of one checkpoint directory.

    numerics: "bf16", "w4a16" or "w4a4"; without it, what the files are made for. device: without it a CUDA device of
    capability 8.0 or higher, else the CPU. attention: transformers' name of the attention in BF16 ("eager", "sdpa"):
    the same mathematics, rounded in another order.

    Raises:
        InvalidRequest: numerics that this checkpoint cannot run in.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        numerics: Numerics | None = None,
        device: str | None = None,
        attention: str | None = None,
    ) -> None:
        self.path = Path(path)
        self._asked, self._device, self._attention = numerics, device, attention
        self._model: Any = None
        self._speaking, self._users = False, 0
        if numerics is not None:
            self._check_numerics(numerics)

    def __repr__(self) -> str:
        return f"ModelHandle({str(self.path)!r}, {'closed' if self._model is None else 'open'})"

    def _check_numerics(self, asked: Numerics) -> None:
        made_for = file_numerics(self._checkpoint, self._packed)
        possible = {"bf16": ("bf16",), "w4a16": ("w4a16",), "w4a4": ("w4a4", "w4a16")}[made_for]
        if asked not in possible:
            raise InvalidRequest(
                f"numerics {asked}", where=str(self.path), expected=" or ".join(possible),
                fix="w4a4 needs a packed checkpoint with input scales, w4a16 a packed one, bf16 an unpacked one",
            )  # fmt: skip

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return open_checkpoint(self.path)

    @cached_property
    def _packed(self) -> set[str]:
        return packed_modules(self._checkpoint)

    @property
    def config(self) -> Mapping[str, Any]:
        """`config.json` as it is."""
        return self._checkpoint.config

    @property
    def numerics(self) -> Numerics:
        """In which numbers it runs."""
        return self._asked or file_numerics(self._checkpoint, self._packed)

    @property
    def speaks(self) -> bool:
        """False for checkpoints of the thinker alone (Thinking, Captioner)."""
        stages = (stage_of(name) for name in self._checkpoint.entries)
        return any(stage is not None and stage.name == "code2wav" for stage in stages)

    @property
    def device(self) -> str:
        """Where it runs."""
        if self._device is None:
            from pytest_q3omni.engines.device import missing, probe

            self._device = "cpu" if missing("gpu", probe()) else "cuda"
        return self._device

    @cached_property
    def processor(self) -> Any:
        """The checkpoint's own processor."""
        from pytest_q3omni.omni.processor import load_processor

        return load_processor(self.path)

    @contextmanager
    def loaded(self, *, speech: bool | None = None) -> Iterator[Any]:
        """The transformers model, open for this block at least; afterwards it stays open until its memory is needed.

        speech: with talker and code2wav; without it, if the checkpoint has them.

        Raises:
            InvalidRequest: speech is asked of a checkpoint that has none.
            EngineError: the model does not fit, even after closing every other one that is not in use.
        """
        wanted = self.speaks if speech is None else speech
        if wanted and not self.speaks:
            raise InvalidRequest(
                "speech of a checkpoint that has no talker", where=str(self.path), expected="text alone",
                fix="leave out speech=True, or take a checkpoint with talker and code2wav (Instruct)",
            )  # fmt: skip
        if self._model is None or (wanted and not self._speaking):
            self._open(wanted)
        _OPEN.remove(self)
        _OPEN.append(self)
        self._users += 1
        try:
            yield self._model
        finally:
            self._users -= 1

    def _open(self, speech: bool) -> None:
        self.close()
        self._check_size("" if speech else "thinker.")
        _make_room(self, self._bytes(speech))
        model = self._load(speech)
        self._model, self._speaking = model, speech
        _OPEN.append(self)

    def _load(self, speech: bool) -> Any:
        from pytest_q3omni.engines.transformers import load_model

        if self.numerics == "bf16":
            return load_model(self.path, speech=speech, device=self.device, attention=self._attention)
        return load_packed(self._checkpoint, self.numerics, speech=speech, device=self.device)

    def _check_size(self, prefix: str) -> None:
        """Refuse a config that describes far more than the files hold: transformers would build it all first.

        Raises:
            Inconsistent: names both numbers of parameters, or the field of the config that is wrong.
        """
        described = expected_tensors(self.config, f"{self.path}: config.json")
        parameters = sum(math.prod(tensor.shape) for tensor in described if tensor.name.startswith(prefix))
        stored = bf16_bytes(self._checkpoint, self._packed, prefix) // 2
        if parameters > _MOST_DESCRIBED * stored:
            raise Inconsistent(
                f"describes {parameters:,} parameters", where=f"{self.path}: config.json",
                expected=f"the {stored:,} that the files hold", fix="take config.json and weights from the same model",
            )  # fmt: skip

    def _bytes(self, speech: bool) -> int:
        whole = bf16_bytes(self._checkpoint, self._packed, "" if speech else "thinker.")
        return int(whole * _HEADROOM)

    def close(self) -> None:
        """Free the memory; the next question opens it again.

        Raises:
            InvalidRequest: a `with handle.loaded()` block still uses it.
        """
        if self._users:
            fix = "leave its `with ... loaded()` block first"
            raise InvalidRequest("the model is in use", where=str(self.path), fix=fix)
        if self in _OPEN:
            _OPEN.remove(self)
        if self._model is not None:
            self._model = None
            gc.collect()  # modules refer to each other

    def generate(
        self, conversation: Conversation | Messages | str, *, max_new_tokens: int = 256, speech: bool = False
    ) -> Answer:
        """Answer greedily; an answer that the conversation already holds is left out of the question.

        conversation: a prompt (str) reaches the model as it is, without the chat template.

        Raises:
            InvalidRequest: speech is asked of a checkpoint that has none, or `conversation` is none.
            NotChatML: speech is asked for a prompt without role markers; text does not need them.
            EngineError: the model does not fit or fails, or cannot speak about what the conversation holds.
        """
        asked = conversation if isinstance(conversation, str) else question(_conversation(conversation))
        if speech:
            check_speech(asked, max_new_tokens)
        with self.loaded(speech=speech or self._speaking) as model:
            return answer(model, self.processor, asked, self.device, max_new_tokens, speech)

    def logprobs(self, conversation: Conversation | Messages, tokens: Sequence[int] | None = None) -> Logprobs:
        """Teacher-forced log-probabilities of an answer: of `tokens`, or of the one that the conversation ends with.

        Raises:
            InvalidRequest: there is no answer, or `conversation` is none.
        """
        asked = _conversation(conversation)
        if not asked.answered and tokens is None:
            raise InvalidRequest(
                "no answer to judge", where=asked.id, expected="a last message of the assistant",
                fix="add the answer, or ask with generate()",
            )  # fmt: skip
        with self.loaded(speech=self._speaking) as model:
            return logprobs(model, self.processor, asked, self.device, tokens)

    def speech_logprobs(
        self, conversation: Conversation | Messages, tokens: Sequence[int], codes: Any
    ) -> SpeechLogprobs:
        """Teacher-forced log-probabilities of speech: of `codes`, integers (codebooks, frames), as in `Answer.codes`.

        tokens: the text that is spoken, with its end of turn; an answer in `conversation` is left out.

        Raises:
            InvalidRequest: a checkpoint that does not speak, or codes that are none of this model.
            EngineError: the model does not fit or fails, or cannot speak about what the conversation holds.
        """
        asked = _conversation(conversation)
        check_speech(asked, len(tokens))
        with self.loaded(speech=True) as model:
            return speech_logprobs(model, self.processor, asked, self.device, tokens, codes)

    def sound(self, codes: Any) -> NDArray[np.float32]:
        """The waveform, float32 (samples,) at 24 kHz, that code2wav makes of `codes`, integers (codebooks, frames).

        Raises:
            InvalidRequest: a checkpoint that does not speak, or codes that are none of this model.
            EngineError: the model does not fit or fails.
        """
        with self.loaded(speech=True) as model:
            return waveform(model, codes, self.device, str(self.path))

    def memory_bytes(self) -> int:
        """Bytes of the open model's parameters and buffers; 0 while it is closed."""
        if self._model is None:
            return 0
        held = [*self._model.parameters(), *self._model.buffers()]
        return sum(tensor.numel() * tensor.element_size() for tensor in held)


def open_models() -> tuple[ModelHandle, ...]:
    """The handles whose models are in memory, the longest unused first."""
    return tuple(_OPEN)


def _conversation(given: Conversation | Messages) -> Conversation:
    if isinstance(given, Conversation):
        return given
    value = given if isinstance(given, str) else {"messages": [dict(message) for message in given]}
    return parse_conversation(value, "messages", Path.cwd())


def _make_room(handle: ModelHandle, needed: int) -> None:
    """Close models that are not in use, the longest unused first, until `needed` bytes are free."""
    for other in [*_OPEN, None]:
        free = available_bytes(handle.device)
        if free is None or free >= needed:
            return
        if other is not None and not other._users and other.device == handle.device:
            other.close()
    in_use = [str(other.path) for other in _OPEN if other.device == handle.device]
    raise EngineError(
        f"the model needs {gib(needed)} on {handle.device}, {gib(free or 0)} are free", where=str(handle.path),
        expected="room for it" + (f" beside {', '.join(in_use)}, which is in use" if in_use else ""),
        fix="leave the other model's `with ... loaded()` block first" if in_use else "use a larger machine or device",
    )  # fmt: skip
