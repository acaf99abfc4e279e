"""What two answers to the same prompts may differ by, and where those figures come from.

A sound checkpoint must pass, with what rounding costs; the smallest fault that matters must not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MOST_MEAN = 0.02
"""Largest mean |delta log p|, in nats. Twice what rounding costs: a packed checkpoint of four layers with random
weights and its twin differ by 0.010 on average in vLLM 0.26 on an H100 (Marlin against BF16). That is the size to
expect: a BF16 result is rounded by up to 2^-8, with a standard deviation of 0.0016; some ten of them in a row per
layer, over four layers, add up to 0.0016 x sqrt(40) = 1 % of a hidden state, and logits of such a model have a standard
deviation of 0.9. It grows with the root of the number of layers."""
LEAST_FAULT = 0.12
"""Mean |delta log p| of the smallest fault that must be noticed: inputs quantized where they should not be cost 0.121
in the same place. A mean that is below its bound passes if with all its uncertainty it is below this, too."""
LEAST_TOP1 = 0.90
"""Smallest share of positions with the same most likely token. The most likely of 152,064 random logits leads the next
by 0.9 / sqrt(2 ln 152064) = 0.18 on average, and by less than d in a share d / 0.18 of all cases; a mean |delta log p|
of 0.02 is a difference of 0.028 between two tokens, half of which go the wrong way: 8 % of the positions. Trained
models are surer of what they say. (The same estimate gives 46 % for quantized inputs; measured were 39 %. One layer of
full width, weights alone, in vLLM 0.32 on a CPU: a mean of 0.0014, and 0.5 % of the positions.)"""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a comparison must keep: the largest mean (nats) and the smallest share in top-1. fault: a mean that must be
    told apart from the one that was found."""

    mean: float = MOST_MEAN
    top1: float = LEAST_TOP1
    fault: float = LEAST_FAULT


def input_bounds(cost: float) -> Bounds:
    """Bounds for two implementations of W4A4, where quantized inputs cost a mean |delta log p| of `cost`.

    Both round the same inputs to the same codes, but where BF16 noise carries one over a rounding step: then it is a
    whole step of NVFP4, and goes through the rest of the model. On the tiny model vLLM 0.32's emulation and ours differ
    by a third to a half of the cost; with random weights of full width, four layers, in vLLM 0.26 on an H100 by 53 to
    70 %: more than a half, which was the bound of that run. Errors that had nothing to do with each other would give
    1.4 times the cost. Three quarters: nearer to each other than to weights alone. Top-1 follows as for `LEAST_TOP1`,
    5 % per 0.01, as far as that estimate holds.
    """
    cost = cost if math.isfinite(cost) else 0.0  # where somebody computes NaN, nothing may pass for near
    mean = max(MOST_MEAN, 0.75 * cost)
    return Bounds(mean, max(0.5, 1 - (1 - LEAST_TOP1) / MOST_MEAN * mean), max(LEAST_FAULT, cost))
