"""How far apart two engines' log-probabilities of the same prompts are, in figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_q3omni.engines.serving import PromptLogprobs
from pytest_q3omni.errors import EngineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Apart:
    """How far apart two lists of log-probabilities are, over `positions` tokens of `prompts` prompts.

    mean, median, p99 and largest are |delta log p| in nats, infinite where one side is no number; error is the standard
    error of the mean, prompts taken for independent (infinite for one prompt). top1: share of positions with the same
    most likely token. in_common: Pearson's correlation of what the two make of a base, 0 where one makes nothing of it,
    or what is no number; None without a base.
    """

    prompts: int
    positions: int
    mean: float
    error: float
    median: float
    p99: float
    largest: float
    top1: float
    in_common: float | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """What an engine said at positions of one prompt, once or several times: log-probabilities and token ids, (n,)."""

    logprobs: Floats
    most_likely: NDArray[np.int64]


def as_if_from(
    base: Sequence[PromptLogprobs], before: Sequence[PromptLogprobs], after: Sequence[PromptLogprobs]
) -> list[PromptLogprobs]:
    """What `base` would say if what made `after` of `before` were done to it: its log-probabilities moved as far.

    Of two engines this leaves the effect alone: what else they do otherwise, in their towers, say, is in both.

    Raises:
        EngineError: they speak of different tokens.
    """
    moved = []
    for number, (start, one, two) in enumerate(zip(base, before, after, strict=True)):
        for other in (one, two):
            check_same_tokens(f"prompt {number}", start.tokens, other.tokens)
        logprobs = (a + (c - b) for a, b, c in zip(start.logprobs, one.logprobs, two.logprobs, strict=True))
        moved.append(PromptLogprobs(start.tokens, tuple(logprobs), two.most_likely))
    return moved


def check_same_tokens(name: str, reference: Sequence[int], found: Sequence[int]) -> None:
    """That two answers speak of the same prompt.

    Raises:
        EngineError: they do not; `name` is the prompt's.
    """
    if reference == found:
        return
    first = next(
        (n for n, pair in enumerate(zip(reference, found, strict=False)) if len(set(pair)) > 1),
        min(len(reference), len(found)),
    )
    raise EngineError(
        f"{len(found)} tokens that differ from the reference's {len(reference)} from position {first + 1} on",
        where=name, expected="the same token ids",
        fix="tokenizer, processor and chat template of both must be the same files",
    )  # fmt: skip


def said(answers: Sequence[PromptLogprobs], positions: NDArray[np.int64]) -> Said:
    """What each of the answers to one prompt has at `positions`, one answer after the other."""
    import numpy as np

    logprobs = [np.asarray(answer.logprobs, np.float64)[positions] for answer in answers]
    return Said(
        np.concatenate(logprobs), np.concatenate([np.asarray(answer.most_likely)[positions] for answer in answers])
    )


def deltas(one: Said, other: Said) -> Floats:
    """|delta log p| at each position, infinite where one side is no number: NaN would be below every bound."""
    import numpy as np

    with np.errstate(invalid="ignore"):
        found: Floats = np.abs(one.logprobs - other.logprobs)
    found[~np.isfinite(found)] = math.inf
    return found


def apart(reference: Sequence[Said], other: Sequence[Said], base: Sequence[Said] | None = None) -> Apart:
    """The figures of prompts, of which each list has one entry, at the same positions."""
    import numpy as np

    parts = [deltas(one, two) for one, two in zip(reference, other, strict=True)]
    every = np.concatenate(parts)
    if not every.size:
        return Apart(len(parts), 0, math.nan, math.inf, math.nan, math.nan, math.nan, math.nan)
    mean, error = float(every.mean()), math.inf
    if len(parts) > 1 and math.isfinite(mean):  # a ratio of two sums over prompts, which differ in length
        residuals = np.array([float(part.sum()) - mean * part.size for part in parts])
        error = float(np.sqrt((residuals**2).sum() * len(parts) / (len(parts) - 1))) / every.size
    with np.errstate(invalid="ignore"):
        median, p99 = (float(np.percentile(every, share, method="lower")) for share in (50, 99))
    same = np.concatenate([one.most_likely == two.most_likely for one, two in zip(reference, other, strict=True)])
    return Apart(
        len(parts), every.size, mean, error, median, p99, float(every.max()), float(same.mean()),
        None if base is None else _in_common(*(_joined(each) for each in (reference, other, base))),
    )  # fmt: skip


def _joined(parts: Sequence[Said]) -> Floats:
    import numpy as np

    return np.concatenate([part.logprobs for part in parts])


def _in_common(reference: Floats, other: Floats, base: Floats) -> float:
    import numpy as np

    with np.errstate(invalid="ignore"):
        effects = np.stack([reference - base, other - base])
    if not np.isfinite(effects).all() or not effects.std(axis=1).all():
        return 0.0
    return float(np.asarray(np.corrcoef(effects))[0, 1])
