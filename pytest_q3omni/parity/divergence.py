"""How far two models' next-token distributions are apart: Kullback-Leibler divergence over answer tokens, in nats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_q3omni.errors import EngineError
from pytest_q3omni.records import Divergence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Distributions = Sequence["NDArray[np.float32]"]
"""Per conversation the log-probabilities (tokens, vocabulary) at every token of one and the same answer."""

SIGMAS = 3.0
"""How sure a bound on a mean is: as sure as three standard errors of a normal distribution, 0.13 % on one side."""


def divergence(reference: Distributions, other: Distributions) -> Divergence:
    """KL(reference || other) = sum of p (log p - log q) over the vocabulary, per token; see `Divergence`.

    The standard error is that of a ratio estimator (tokens of one answer depend on each other, conversations do not):
    with s_i nats over n_i tokens in conversation i of C and mean m = sum s_i / sum n_i,
    error = sqrt(C / (C - 1) * sum (s_i - m n_i)^2) / sum n_i (Cochran, Sampling Techniques, 1977, 6.4). One
    conversation has no spread: infinite.

    Raises:
        EngineError: a log-probability is NaN, which says that the other model computes NaN.
    """
    import numpy as np

    per_answer = [_kl(mine, theirs) for mine, theirs in zip(reference, other, strict=True)]
    every = np.concatenate(per_answer)
    equal = np.concatenate([a.argmax(-1) == b.argmax(-1) for a, b in zip(reference, other, strict=True)])
    if not np.isfinite(every).all():
        raise EngineError(
            f"{int((~np.isfinite(every)).sum())} of {len(every)} answer tokens have no finite log-probabilities",
            expected="finite numbers", fix="`q3omni verify` names scales that are NaN, Inf or zero",
        )  # fmt: skip
    mean = float(every.mean())
    return Divergence(
        conversations=len(per_answer),
        tokens=len(every),
        mean=mean,
        error=_error(per_answer, mean),
        median=float(np.median(every)),
        p99=float(np.quantile(every, 0.99)),
        p999=float(np.quantile(every, 0.999)),
        largest=float(every.max()),
        top1=float(equal.mean()),
    )


def _kl(reference: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Per token, in float64. A token of probability 0 in the reference (a suppressed one) adds nothing."""
    import numpy as np

    mine, theirs = reference.astype(np.float64), other.astype(np.float64)
    with np.errstate(invalid="ignore"):  # -inf - -inf of such a token
        terms = np.where(np.isneginf(mine), 0.0, np.exp(mine) * (mine - theirs))
    total: NDArray[np.float64] = terms.sum(-1)
    return np.maximum(total, 0.0, where=~np.isnan(total), out=total)  # rounding may leave -1e-9


def _error(per_answer: Sequence[NDArray[np.float64]], mean: float) -> float:
    count, tokens = len(per_answer), sum(map(len, per_answer))
    if count < 2:
        return math.inf
    squares = sum((float(values.sum()) - mean * len(values)) ** 2 for values in per_answer)
    return math.sqrt(count / (count - 1) * squares) / tokens


def upper_bound(found: Divergence) -> float:
    """A bound that the true mean exceeds with the chance of `SIGMAS`; by Student's t, since conversations are few."""
    return found.mean + margin(found)


def margin(found: Divergence) -> float:
    """How far the true mean may lie above the measured one."""
    if found.conversations < 2:
        return math.inf
    return quantile(found.conversations - 1) * found.error


def quantile(degrees: int) -> float:
    """Student's t with these degrees of freedom, at the chance of `SIGMAS`."""
    from scipy.stats import norm, t

    value: float = t.ppf(norm.cdf(SIGMAS), degrees)
    return value


def accuracy(values: Distributions, tokens: Sequence[Any]) -> float:
    """Share of answers that greedy decoding would give: every token (int64, (n,)) is the most likely one."""
    right = [bool((each.argmax(-1) == answer).all()) for each, answer in zip(values, tokens, strict=True)]
    return sum(right) / len(right)
