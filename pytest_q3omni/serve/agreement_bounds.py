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
LEAST_IN_COMMON = 0.5
"""Smallest correlation of what rounding inputs does to the answers here and there: where two roundings have a part in
common and the rest is each one's own, the correlation is that part's share of the variance. Half: unrelated roundings
have none in common, and neither has an engine that leaves its inputs alone. Correct ones do not come near 1: NVFP4
makes whole steps of differences in the last bit, and each rounding starts from those of the one before. After one layer
of full width with random weights, text, image, audio: 0.89, 0.64, 0.80 in vLLM 0.26 on an H200, 0.88, 0.79, 0.91 in
vLLM 0.32 on a CPU; our own with BF16 noise (`w4a4.add_noise`) 0.79, 0.75, 0.72 on the H200; inputs left alone there
0.04, -0.11, 0.06. After two layers, on the CPU, 0.70, 0.61, 0.65. The tiny model: 0.98, 0.97, 0.91."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a comparison must keep: the largest mean (nats) and the smallest share in top-1. fault: a mean that must be
    told apart from the one that was found. in_common: the smallest correlation, of a comparison that has a base."""

    mean: float = MOST_MEAN
    top1: float = LEAST_TOP1
    fault: float = LEAST_FAULT
    in_common: float = LEAST_IN_COMMON


def input_bounds(cost: float) -> Bounds:
    """Bounds for two implementations of W4A4, where leaving inputs alone is a mean |delta log p| of `cost` away.

    They must be nearer to each other than that, and have their rounding in common; how often a nearly even choice among
    random logits comes out otherwise says no more. No share of the cost would do as a bound for every checkpoint: after
    one layer correct implementations differ by half of it with random weights, and by a sixth in the tiny model.
    """
    cost = cost if math.isfinite(cost) else 0.0  # where somebody computes NaN, nothing may pass for near
    return Bounds(max(MOST_MEAN, cost), 0.0, math.inf)
