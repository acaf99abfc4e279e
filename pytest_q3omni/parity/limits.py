"""How far apart is too far: limits from BF16 computed another way and from plain NVFP4, never from a guess."""

from __future__ import annotations

import math

from pytest_q3omni.parity.divergence import upper_bound
from pytest_q3omni.records import Divergence, State

FACTOR = 4.0
"""What a bit is worth: without it every rounding error doubles, and KL grows with its square. So a mean beyond the
limit says that the checkpoint answers as if each packed weight had less than the three bits and sign that it has.
(KL is quadratic in a small change of the logits: sum p (log p - log q) = half the variance of the change under p.)"""

_ENDLESS = 1e6  # doubt beyond which a number of tokens says no more
MOST_UNCERTAIN = 2.0
"""How many times larger than a mean its uncertainty may be for a pass to say something: faults of the size of those
that answers show at all are tens to thousands of times beyond what the format costs (docs/verdicts-by-fault.md)."""


def limit(plain: Divergence, repeat: Divergence) -> float:
    """The largest mean that passes: `FACTOR` times what plain NVFP4 of the same layers costs, or what BF16 does against
    itself where that is more; each with its uncertainty, so few conversations give a wide limit. Nats per token.
    """
    return FACTOR * max(upper_bound(plain), upper_bound(repeat))


def needed_tokens(plain: Divergence, repeat: Divergence) -> int:
    """Answer tokens at which the limit lies at most `1 + MOST_UNCERTAIN` times as high as endless conversations would
    put it. Uncertainty falls with the root of their number. 0 where there is none. One conversation says nothing of
    spread: the tokens of two, at least.
    """
    mean, bound = max(plain.mean, repeat.mean), max(upper_bound(plain), upper_bound(repeat))
    if math.isinf(bound):
        return 2 * plain.tokens
    doubt = (bound - mean) / (MOST_UNCERTAIN * mean) if mean else 0.0
    return math.ceil(plain.tokens * min(doubt, _ENDLESS) ** 2)


def state(found: Divergence, most: float, needed: int) -> State:
    """Beyond the limit is a failure however few tokens there are; below it they must be enough to say so, unless both
    models say exactly the same. One conversation is never enough.
    """
    if found.mean > most or math.isinf(found.mean):  # NaN is a failure under an infinite limit, too
        return "fail"
    enough = found.tokens >= needed or found.largest == 0
    return "pass" if enough and found.conversations > 1 else "not checked"
