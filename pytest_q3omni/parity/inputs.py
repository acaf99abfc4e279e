"""Do input scales fit the inputs that they scale? Answers alone cannot tell.

An input scale is the largest input over 2688. Too small by a factor of k, it clips everything beyond 1 / k of the
largest input, and answers collapse. Too large, it costs nothing until block scales leave E4M3's range: 448 down to
2^-6, a factor of 28,672, with full precision. On inputs that spread over less than that, a scale 100 times too large
answers *as well as* the right one (tests/parity/test_parity_faults.py); on wider ones, such as the massive activations
of large models, small blocks vanish. So the scale is judged by what it is, not by what it does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pytest_q3omni.nvfp4.format import SCALE_DIVISOR
from pytest_q3omni.omni.naming import input_site
from pytest_q3omni.records import Finding, InputRange

CHECK = "input-ranges"
MOST_ROOM = 32.0
"""Largest sound ratio of what a scale holds to what is seen: other data than these conversations may have reached 32
times further, and five of the fifteen octaves of block scales are gone. Wrong units are off by 448 or 2688."""
LEAST_ROOM = 1 / 8
"""Smallest sound ratio: a calibration that clips outliers on purpose may leave 7/8 of the largest one out."""
_FIX = "calibrate again with conversations like these, and pack again: an input scale is the input's amax / 2688"


def input_ranges(scales: Mapping[str, float], seen: Mapping[str, float]) -> tuple[InputRange, ...]:
    """What the file's scales hold beside what was seen, for each input of the model.

    scales: packed module -> input scale. seen: input site (`input_site` of the modules) -> largest |input|. Where
    modules share an input (experts of a layer, q/k/v), the range names the module with the largest scale.
    """
    widest: dict[str, tuple[float, str]] = {}
    for module, scale in scales.items():
        site = input_site(module)
        if site in seen:
            widest[site] = max(widest.get(site, (0.0, "")), (scale * SCALE_DIVISOR, module))
    return tuple(InputRange(module, holds, seen[site]) for site, (holds, module) in sorted(widest.items()))


def misfits(ranges: tuple[InputRange, ...]) -> Iterator[Finding]:
    """Scales that hold far more than what was seen, or far less."""
    for each in ranges:
        ratio = each.holds / each.seen if each.seen else 1.0
        if LEAST_ROOM <= ratio <= MOST_ROOM:
            continue
        much = f"{ratio:,.0f} times more" if ratio > 1 else f"{1 / ratio:,.0f} times less"
        yield Finding(
            CHECK, "error", f"{each.module}.input_scale",
            f"holds inputs up to {each.holds:.4g}, {much} than the largest that these conversations bring, "
            f"{each.seen:.4g}", f"{LEAST_ROOM:g} to {MOST_ROOM:g} times the largest", _FIX,
        )  # fmt: skip
