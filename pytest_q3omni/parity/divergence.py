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

_SLICE = 64  # tokens
SIGMAS = 3.0
"""How sure a bound on a mean is: as sure as three standard errors of a normal distribution, 0.13 % on one side."""


def divergence(reference: Distributions, other: Distributions) -> Divergence:
    """KL(reference || other) = sum of p (log p - log q) over the vocabulary, per token; see `Divergence`.

    The standard error is that of a ratio estimator (tokens of one answer depend on each other, conversations do not):
    with s_i nats over n_i tokens in conversation i of C and mean m = sum s_i / sum n_i,
    error = sqrt(C / (C - 1) * sum (s_i - m n_i)^2) / sum n_i (Cochran, Sampling Techniques, 1977, 6.4). One
    conversation has no spread: infinite.

    Raises:
        EngineError: the reference computes NaN, or the two have different vocabularies.
    """
    import numpy as np

    _check(reference, other)

    per_answer = [_kl(mine, theirs) for mine, theirs in zip(reference, other, strict=True)]
    every = np.concatenate(per_answer)
    equal = np.concatenate([_same_first(*pair) for pair in zip(reference, other, strict=True)])
    mean = float(every.mean())
    return Divergence(
        conversations=len(per_answer),
        tokens=len(every),
        mean=mean,
        error=_error(per_answer, mean),
        median=_quantile(every, 0.5),
        p99=_quantile(every, 0.99),
        p999=_quantile(every, 0.999),
        largest=float(every.max()),
        top1=float(equal.mean()),
    )


def _check(reference: Distributions, other: Distributions) -> None:
    import numpy as np

    for mine, theirs in zip(reference, other, strict=True):
        if mine.shape != theirs.shape:
            raise EngineError(
                f"{theirs.shape[1]:,} entries in the vocabulary", expected=f"{mine.shape[1]:,}, as in the original",
                fix="compare a checkpoint with the model that it was made from",
            )  # fmt: skip
        if np.isnan(mine).any():
            fix = "check the original: `q3omni verify` names tensors that hold NaN or Inf"
            raise EngineError("NaN in its log-probabilities", where="the original", expected="finite numbers", fix=fix)


def _kl(reference: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Per token, in float64; infinite where the other is NaN. A token of probability 0 in the reference (a suppressed
    one) adds nothing. Slice by slice: a whole answer of the full-size model's vocabulary takes gigabytes.
    """
    import numpy as np

    total = np.zeros(len(reference))
    for start in range(0, len(reference), _SLICE):
        part = slice(start, start + _SLICE)
        mine, theirs = reference[part].astype(np.float64), other[part].astype(np.float64)
        with np.errstate(invalid="ignore"):  # -inf - -inf of such a token
            total[part] = np.where(np.isneginf(mine), 0.0, np.exp(mine) * (mine - theirs)).sum(-1)
    return np.where(np.isnan(total), math.inf, np.maximum(total, 0.0))  # rounding may leave -1e-9


def _same_first(mine: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Per token, whether both have the same most likely one; NaN has none."""
    import numpy as np

    same: NDArray[np.bool_] = (mine.argmax(-1) == theirs.argmax(-1)) & ~np.isnan(theirs).any(-1)
    return same


def _quantile(values: NDArray[np.float64], share: float) -> float:
    import numpy as np

    with np.errstate(invalid="ignore"):  # between two infinities
        found = float(np.quantile(values, share))
    return math.inf if math.isnan(found) else found


def _error(per_answer: Sequence[NDArray[np.float64]], mean: float) -> float:
    count, tokens = len(per_answer), sum(map(len, per_answer))
    if count < 2 or math.isinf(mean):
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

    return float(t.ppf(norm.cdf(SIGMAS), degrees))


def accuracy(values: Distributions, tokens: Sequence[Any]) -> float:
    """Share of answers that greedy decoding would give: every token (int64, (n,)) is the most likely one."""
    right = [bool((each.argmax(-1) == answer).all()) for each, answer in zip(values, tokens, strict=True)]
    return sum(right) / len(right)
