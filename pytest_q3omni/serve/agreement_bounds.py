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


NOISE_MARGIN = 1.25
"""How many times its noise two implementations of W4A4 may be apart: noise is drawn, and model and prompts are few."""
TOP1_MARGIN = 1.5
"""The same for the share of positions where the most likely token differs. With 164 positions and 20 % of them the
standard error is 3 %, of the noise and of what is judged by it."""


def input_bounds(noise: float, noise_top1: float, cost: float) -> Bounds:
    """Bounds for two implementations of W4A4, from what our own makes of one BF16 step of noise in its rounded inputs.

    noise, noise_top1: mean |delta log p| and top-1 of our own against itself with that noise (`w4a4.add_noise`): what
    another order of the same sums does to inputs, and with them to a checkpoint whose routers and block scales may be
    near a step. cost: what rounding the inputs costs at all, which is also how far an engine that leaves its inputs
    alone is away. No share of the cost would do as a bound: NVFP4 makes whole steps of differences in the last bit, so
    correct implementations are apart by half of it even after one layer of random weights (vLLM 0.32 on a CPU: 48 %,
    where the noise is 60 %).
    """
    mean = max(MOST_MEAN, NOISE_MARGIN * _number(noise))
    unlike = max(1 - LEAST_TOP1, TOP1_MARGIN * (1 - _number(noise_top1, otherwise=1.0)))
    return Bounds(mean, max(0.0, 1 - unlike), max(LEAST_FAULT, _number(cost)))


def _number(value: float, otherwise: float = 0.0) -> float:
    """Where somebody computes NaN, nothing may pass for near."""
    return value if math.isfinite(value) else otherwise
