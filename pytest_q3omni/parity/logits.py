"""Answers token by token: which tokens are asked about, what each model gives them, and the rows of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_q3omni.engines._protocol import Engine
from pytest_q3omni.engines.answers import question
from pytest_q3omni.errors import EngineError
from pytest_q3omni.omni.conversations import Conversation
from pytest_q3omni.parity.divergence import accuracy, divergence
from pytest_q3omni.parity.limits import limit, needed_tokens, state
from pytest_q3omni.records import Agreement, Numerics, Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODALITIES = ("text", "image", "audio")
MAX_NEW_TOKENS = 64
"""Of an answer that the original gives where a conversation brings none."""


@dataclass(frozen=True)
class Target:
    """A question, and the answer's tokens (n,) that every model is asked about."""

    conversation: Conversation
    tokens: tuple[int, ...]

    def belongs_to(self, modality: str) -> bool:
        """Whether it counts under a modality: "text" is text alone."""
        others = self.conversation.modalities - {"text"}
        return modality in others if others else modality == "text"


@dataclass(frozen=True)
class Answers:
    """What the models say to the same targets; per target the log-probabilities (tokens, vocabulary)."""

    original: Sequence[NDArray[np.float32]]
    repeat: Sequence[NDArray[np.float32]]
    plain: Sequence[NDArray[np.float32]]
    quantized: Sequence[NDArray[np.float32]]

    def chosen(self, picked: Iterable[int]) -> Answers:
        """Those of some targets."""
        numbers = list(picked)
        sides = (self.original, self.repeat, self.plain, self.quantized)
        return Answers(*([side[number] for number in numbers] for side in sides))


def find_targets(original: Engine, conversations: Sequence[Conversation], progress: Progress) -> list[Target]:
    """Each conversation's own answer; where it has none, the original's. A question that comes again counts once: the
    uncertainty of a mean takes conversations for independent.
    """
    found: dict[str, Target] = {}
    for number, conversation in enumerate(conversations):
        progress("questions", number, len(conversations))
        asked = question(conversation)
        if repr(asked.messages) in found:
            continue
        if conversation.answered:
            tokens = tuple(original.logprobs(conversation).tokens.tolist())
        else:
            tokens = original.generate(conversation, max_new_tokens=MAX_NEW_TOKENS).tokens
        found[repr(asked.messages)] = Target(asked, tokens)
    progress("questions", len(conversations), len(conversations))
    return list(found.values())


def ask(engine: Engine, targets: Sequence[Target], what: str, progress: Progress) -> list[NDArray[np.float32]]:
    """Log-probabilities at every answer token of every target."""
    found = []
    for number, target in enumerate(targets):
        progress(what, number, len(targets))
        found.append(engine.logprobs(target.conversation, target.tokens).values)
    progress(what, len(targets), len(targets))
    return found


def agreement(
    modality: str, numerics: Numerics, answers: Answers, tokens: Sequence[Sequence[int] | NDArray[np.int64]]
) -> Agreement:
    """The row of one modality and one numerics; tokens: of each answer.

    Raises:
        EngineError: BF16 or plain NVFP4 computes NaN; the checkpoint's is a failed row.
    """
    plain, repeat = divergence(answers.original, answers.plain), divergence(answers.original, answers.repeat)
    if math.isinf(plain.mean) or math.isinf(repeat.mean):
        what = "plain NVFP4" if math.isinf(plain.mean) else "BF16 with eager attention"
        raise EngineError(
            f"{what} of the original computes NaN", where=f"{modality} answers in {numerics.upper()}",
            expected="finite log-probabilities", fix="check the original: a weight or an input is too large for it",
        )  # fmt: skip
    found = divergence(answers.original, answers.quantized)
    most, needed = limit(plain, repeat), needed_tokens(plain, repeat)
    return Agreement(
        modality=modality,
        numerics=numerics,
        divergence=found,
        plain=plain,
        apart=divergence(answers.plain, answers.quantized),
        repeat=repeat,
        accuracy=accuracy(answers.quantized, tokens),
        original_accuracy=accuracy(answers.original, tokens),
        plain_accuracy=accuracy(answers.plain, tokens),
        limit=most,
        needed_tokens=needed,
        state=state(found, most, needed),
    )


def text_agreements(numerics: Numerics, targets: Sequence[Target], answers: Answers) -> list[Agreement]:
    """A row for each modality that the targets have."""
    rows = []
    for modality in MODALITIES:
        members = [number for number, target in enumerate(targets) if target.belongs_to(modality)]
        if members:
            tokens = [targets[number].tokens for number in members]
            rows.append(agreement(modality, numerics, answers.chosen(members), tokens))
    return rows
