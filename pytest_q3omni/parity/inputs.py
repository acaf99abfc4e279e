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
from pytest_q3omni.omni.naming import experts_module, input_site
from pytest_q3omni.records import Finding, InputRange, Severity

CHECK = "input-ranges"
MOST_ROOM = 64.0
"""Largest ratio of what a scale holds to what is seen. A judgement, not a measurement: other data than these
conversations may reach further, and six of the fifteen octaves of block scales are gone then; the wrong units that have
been seen are off by 448 or 2688. Where a modality was not asked, whose inputs may be larger, it is a warning."""
LEAST_ROOM = 1 / 8
"""Smallest ratio, a judgement as well: a calibration may clip outliers on purpose, and 7/8 of the largest one."""
_FIX = "calibrate again with conversations like these, and pack again: an input scale is the input's amax / 2688"


def input_ranges(scales: Mapping[str, float], seen: Mapping[str, float]) -> tuple[InputRange, ...]:
    """What the file's scales hold beside what was seen, for each input of the model.

    scales: packed module -> input scale. seen: input site (`input_site` of the modules) -> largest |input|. Modules
    that share an input (experts of a layer, q/k/v) make one range.
    """
    sites: dict[str, list[tuple[float, str]]] = {}
    for module, scale in scales.items():
        sites.setdefault(input_site(module), []).append((scale * SCALE_DIVISOR, module))
    return tuple(_range(members, seen[site]) for site, members in sorted(sites.items()) if site in seen)


def _range(members: list[tuple[float, str]], seen: float) -> InputRange:
    (least, lowest), (most, module) = min(members), max(members)
    return InputRange(module, most, seen, lowest, least) if least < most else InputRange(module, most, seen)


def misfits(ranges: tuple[InputRange, ...], *, complete: bool = True) -> Iterator[Finding]:
    """Scales that hold far more than what was seen, or far less; `complete`: every modality was asked.

    What is seen of experts is their layer's. The scale of some experts may be far smaller than that, as their own
    inputs may be: a warning then, and an error where no expert of the layer has a larger one.
    """
    for each in ranges:
        if each.seen and each.holds / each.seen > MOST_ROOM:
            yield _misfit(each.module, each.holds, each.seen, "error" if complete else "warning")
        module, holds = (each.lowest, each.holds_least) if each.lowest else (each.module, each.holds)
        if each.seen and holds / each.seen < LEAST_ROOM:
            alone = experts_module(module) and each.holds / each.seen >= LEAST_ROOM
            yield _misfit(module, holds, each.seen, "warning" if alone else "error")


def _misfit(module: str, holds: float, seen: float, severity: Severity) -> Finding:
    much = f"{holds / seen:,.0f} times more" if holds > seen else f"{seen / holds:,.0f} times less"
    whose = "its layer" if experts_module(module) else "it"
    return Finding(
        CHECK, severity, f"{module}.input_scale",
        f"holds inputs up to {holds:.4g}, {much} than the largest that these conversations bring {whose}, {seen:.4g}",
        f"{LEAST_ROOM:g} to {MOST_ROOM:g} times the largest", _FIX,
    )  # fmt: skip
