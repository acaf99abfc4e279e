"""An engine that says what it is told to: for tests of code that asks engines, without a checkpoint and without torch.

    engine = FakeEngine("somewhere", {"bf16": {"Hello": Scripted(Answer("Hi", (7, 2)), logprobs)}})
    engine.generate([{"role": "user", "content": "Hello"}]).text  # "Hi"

It opens, closes and refuses like `ModelHandle`, and writes all of it to a log, which several fakes may share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_q3omni.engines.answers import Answer, Logprobs, SpeechLogprobs
from pytest_q3omni.engines.speech import check_speech
from pytest_q3omni.errors import InvalidRequest
from pytest_q3omni.omni.conversations import Conversation, Messages, parse_conversation
from pytest_q3omni.records import Numerics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Scripted:
    """What a fake says to one question, and how likely it finds an answer to it, whichever that is.

    answer: as `generate` gives it; without `speech=True` its waveform and codes are left out. logprobs: float32
    (tokens, vocabulary). speech_logprobs: of each codebook float32 (frames, its vocabulary).
    """

    answer: Answer
    logprobs: NDArray[np.float32]
    speech_logprobs: tuple[NDArray[np.float32], ...] = ()


class Call(NamedTuple):
    """One line of the log. what: "open", "close", "generate", "speak", "logprobs" or "speech_logprobs"."""

    path: str
    numerics: Numerics
    what: str
    question: str = ""


class FakeEngine:
    """An `Engine` by script, and the comparison's `PlainEngine`, too.

    script: numerics -> question -> what it says; a question is the text of the user's last message, or the whole of a
    prompt. It runs in the first numerics of the script; `numerics` may be set to another one. amax: what `input_amax`
    gives. vocoder: what `sound` makes of codes; without it, the waveform of the scripted answer that has these codes,
    and silence for all others. size: what `memory_bytes` gives while it is open.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        script: Mapping[Numerics, Mapping[str, Scripted]],
        *,
        speaks: bool = True,
        amax: Mapping[str, float] | None = None,
        vocoder: Callable[[NDArray[np.int64]], NDArray[np.float32]] | None = None,
        size: int = 1,
        log: list[Call] | None = None,
    ) -> None:
        self.path, self.numerics, self.speaks = Path(path), next(iter(script)), speaks
        self.log: list[Call] = [] if log is None else log
        self._script, self._amax, self._size = script, dict(amax or {}), size
        self._vocoder = vocoder
        self._open, self._users = False, 0

    @contextmanager
    def loaded(self, *, speech: bool | None = None) -> Iterator[Any]:
        """Itself, open for this block at least; afterwards it stays open until it is closed.

        Raises:
            InvalidRequest: speech is asked of a fake that does not speak.
        """
        if speech and not self.speaks:
            raise InvalidRequest(
                "speech of a fake that does not speak", where=str(self.path), expected="text alone",
                fix="leave out speech=True, or make it with speaks=True",
            )  # fmt: skip
        if not self._open:
            self._open = True
            self._note("open")
        self._users += 1
        try:
            yield self
        finally:
            self._users -= 1

    def close(self) -> None:
        """Close it; the next question opens it again.

        Raises:
            InvalidRequest: a `with engine.loaded()` block still uses it.
        """
        if self._users:
            fix = "leave its `with ... loaded()` block first"
            raise InvalidRequest("the model is in use", where=str(self.path), fix=fix)
        if self._open:
            self._open = False
            self._note("close")

    def generate(
        self, conversation: Conversation | Messages | str, *, max_new_tokens: int = 256, speech: bool = False
    ) -> Answer:
        """The scripted answer; of its tokens at most `max_new_tokens`.

        Raises:
            InvalidRequest: a question that is not in the script, or speech of a fake that does not speak.
            NotChatML, EngineError: nobody could speak to this question; see `check_speech`.
        """
        asked = _conversation(conversation)
        if speech:
            check_speech(asked, max_new_tokens)
        with self.loaded(speech=speech):
            said = self._said("speak" if speech else "generate", asked).answer
        cut = replace(said, tokens=said.tokens[:max_new_tokens])
        return cut if speech else replace(cut, waveform=None, codes=None)

    def logprobs(self, conversation: Conversation | Messages, tokens: Sequence[int] | None = None) -> Logprobs:
        """The scripted log-probabilities at every one of `tokens`; without them, of the scripted answer's.

        Raises:
            InvalidRequest: a question that is not in the script, or more tokens than it has log-probabilities for.
        """
        import numpy as np

        with self.loaded():
            said = self._said("logprobs", _conversation(conversation))
        asked = np.asarray(said.answer.tokens if tokens is None else tokens, dtype=np.int64)
        return Logprobs(asked, self._first(said.logprobs, len(asked), "tokens"))

    def speech_logprobs(
        self, conversation: Conversation | Messages, tokens: Sequence[int], codes: Any
    ) -> SpeechLogprobs:
        """The scripted log-probabilities at every frame of `codes` (codebooks, frames).

        Raises:
            InvalidRequest: a question that is not in the script, a fake that does not speak, or more codebooks or
                frames than the script has log-probabilities for.
            EngineError: nobody could speak to this question; see `check_speech`.
        """
        import numpy as np

        asked, given = _conversation(conversation), np.asarray(codes, dtype=np.int64)
        check_speech(asked, len(tokens))
        with self.loaded(speech=True):
            said = self._said("speech_logprobs", asked)
        books = self._first(said.speech_logprobs, given.shape[0], "codebooks")
        return SpeechLogprobs(given, tuple(self._first(values, given.shape[1], "frames") for values in books))

    def sound(self, codes: Any) -> NDArray[np.float32]:
        """The waveform of `codes` (codebooks, frames), by the vocoder or by the script; silence, 1920 samples a frame.

        Raises:
            InvalidRequest: a fake that does not speak.
        """
        import numpy as np

        given = np.asarray(codes, dtype=np.int64)
        with self.loaded(speech=True):
            if self._vocoder is not None:
                return self._vocoder(given)
        for said in self._script[self.numerics].values():
            answer = said.answer
            if answer.waveform is not None and answer.codes is not None and np.array_equal(answer.codes, given):
                return answer.waveform
        return np.zeros(1920 * given.shape[1], np.float32)

    def memory_bytes(self) -> int:
        """`size` while it is open, else 0."""
        return self._size if self._open else 0

    def input_amax(self) -> dict[str, float]:
        """The scripted largest inputs, by input site."""
        return dict(self._amax)

    def _said(self, what: str, conversation: Conversation | str) -> Scripted:
        asked, known = asked_text(conversation), self._script[self.numerics]
        self._note(what, asked)
        if asked not in known:
            raise InvalidRequest(
                f"nothing is scripted for {asked!r} in {self.numerics}", where=str(self.path),
                expected=f"one of {', '.join(map(repr, known))}", fix="add it to the script",
            )  # fmt: skip
        return known[asked]

    def _first(self, values: Any, wanted: int, what: str) -> Any:
        if len(values) < wanted:
            raise InvalidRequest(
                f"log-probabilities of {len(values)} {what} are scripted", where=str(self.path),
                expected=f"{wanted}, as asked", fix="script more, or ask for fewer",
            )  # fmt: skip
        return values[:wanted]

    def _note(self, what: str, asked: str = "") -> None:
        self.log.append(Call(str(self.path), self.numerics, what, asked))


def asked_text(conversation: Conversation | str) -> str:
    """What a script calls a question: the text of the user's last message, or a prompt as it is."""
    if isinstance(conversation, str):
        return conversation
    asked = next(message for message in reversed(conversation.messages) if message["role"] == "user")
    return "".join(part["text"] for part in asked["content"] if part["type"] == "text")


def _conversation(given: Conversation | Messages | str) -> Conversation | str:
    if isinstance(given, Conversation | str):
        return given
    return parse_conversation({"messages": [dict(message) for message in given]}, "messages", Path.cwd())
