"""What every engine does: load one checkpoint, answer, say how likely an answer is, tell its memory, close."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_q3omni.engines.answers import Answer, Logprobs, SpeechLogprobs
from pytest_q3omni.omni.conversations import Conversation, Messages
from pytest_q3omni.records import Numerics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Engine(Protocol):
    """One checkpoint in one numerics. Nothing is loaded before the first question."""

    @property
    def path(self) -> Path:
        """The checkpoint's directory."""

    @property
    def numerics(self) -> Numerics:
        """In which numbers it runs."""

    @property
    def speaks(self) -> bool:
        """False for checkpoints of the thinker alone."""

    def loaded(self, *, speech: bool | None = None) -> AbstractContextManager[Any]:
        """The model, open for the block at least."""

    def generate(
        self, conversation: Conversation | Messages | str, *, max_new_tokens: int = 256, speech: bool = False
    ) -> Answer:
        """The greedy answer to the conversation's question."""

    def logprobs(self, conversation: Conversation | Messages, tokens: Sequence[int] | None = None) -> Logprobs:
        """Log-probabilities at every token of an answer: of `tokens`, or of the one that the conversation holds."""

    def speech_logprobs(
        self, conversation: Conversation | Messages, tokens: Sequence[int], codes: Any
    ) -> SpeechLogprobs:
        """Log-probabilities of codes (codebooks, frames), of an answer whose text is `tokens`."""

    def sound(self, codes: Any) -> NDArray[np.float32]:
        """The waveform (samples,) that this model's vocoder makes of codes (codebooks, frames)."""

    def memory_bytes(self) -> int:
        """Bytes that the open model holds; 0 while it is closed."""

    def close(self) -> None:
        """Free the memory; the next question opens it again."""
