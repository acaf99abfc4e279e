"""Questions to a serving engine, so that its probabilities can be compared: with its own replies, and twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from pytest_q3omni.engines.serving import Prompt, PromptLogprobs, ServingEngine
from pytest_q3omni.engines.vllm_questions import Question

REPLY_TOKENS = 16
FRAME = 160
"""Samples of one frame of sound, as Qwen3-Omni's feature extractor has it (`hop_length`)."""


def in_whole_frames(question: Question) -> Question:
    """The question with silence after its sounds up to the next frame. vLLM fills the last frame, transformers does not
    (vLLM 0.26 and 0.32, `pad_to_hop_length`), which makes one token more or less of some recordings.
    """
    size = 4 * FRAME  # float32
    return replace(question, sounds=tuple(sound + bytes(-len(sound) % size) for sound in question.sounds))


def with_replies(
    engine: ServingEngine, questions: Sequence[Question], placeholders: frozenset[int], *, tokens: int = REPLY_TOKENS
) -> list[Prompt]:
    """Each question, in whole frames, with the engine's greedy reply: `tokens` tokens, past the end of its answer.

    What a model says depends on picture and sound more than what it is told. A reply ends before a placeholder, which
    random weights may well say: an engine would look for another picture.

    Raises:
        EngineError: the engine died, took too long or answered nonsense.
    """
    questions = [in_whole_frames(question) for question in questions]
    made = engine.generate([Prompt(question=question) for question in questions], tokens, past_the_end=True)
    replies = [tuple(takewhile(lambda token: token not in placeholders, one.tokens)) for one in made]
    return [Prompt(question=question, reply=reply) for question, reply in zip(questions, replies, strict=True)]


def ask_twice(engine: ServingEngine, prompts: Sequence[Prompt]) -> tuple[list[PromptLogprobs], list[PromptLogprobs]]:
    """Log-probabilities of the prompts, all at once; and again one by one, from the last to the first.

    Kernels choose their tiles by the size of a batch, and so the order of their sums: what the two differ by is the
    engine's own noise.
    """
    together = engine.prompt_logprobs(prompts)
    alone = [engine.prompt_logprobs([prompt])[0] for prompt in reversed(prompts)]
    return together, alone[::-1]
