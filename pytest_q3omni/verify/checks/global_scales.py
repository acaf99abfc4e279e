"""Every global scale is finite, positive, and of the size that weights have.

The scale is amax / 2688: above 1 the largest weight would be beyond 2688. An inverted one is some ten thousand:
ModelOpt's layout stores amax / 2688, compressed-tensors' 2688 / amax, and whoever converts must turn it over. Layers of
one role in one model differ by a factor of ten or thirty. 100 times their median is another convention (the 448 of the
block scales left out), no weight; 100 times below it may be an expert that training never reached, so that is a
warning, and 1000 times an error. Where the median of all means weights beyond 64 or below 0.001, everything is in
another convention.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from statistics import median

from pytest_q3omni.nvfp4.format import SCALE_DIVISOR
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject, part_of

_ABOVE, _BELOW, _FAR_BELOW = 100.0, 1 / 100.0, 1 / 1000.0  # times the median
_PEERS = 3  # fewer have no median worth the name
_MOST, _LEAST = 64.0, 2.0**-10  # largest weight of the median layer; trained ones have 0.05 to 5
_AGAIN = "pack this module again from the source"


def _find(subject: Subject) -> Iterator[Fault]:
    roles: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for packed in subject.sound_packed():
        value, stored = subject.global_scale(packed), subject.scalar(packed.global_scale)
        if value is None or stored is None:
            continue
        if not (math.isfinite(value) and value > 0):
            yield Fault(packed.global_scale, f"{stored:.6g}", "a finite number above 0", _AGAIN)
        elif value > 1:
            hint = f"; 1 / it would be plausible: an amax of {SCALE_DIVISOR / value:.3g}" if value > 100 else ""
            yield Fault(
                packed.global_scale,
                f"{stored:.6g}, which means a largest weight of {value * SCALE_DIVISOR:.4g}{hint}",
                "2688 / amax: at least 1" if subject.layout.inverted else "amax / 2688: at most 1",
                f"an inverted or foreign scale: {_AGAIN}",
            )
        else:
            stage, part = part_of(packed.module)
            roles[stage, part.name if part else "", packed.module.rpartition(".")[2]][packed.global_scale] = value
    every = {name: value for values in roles.values() for name, value in values.items()}
    if len(every) >= _PEERS and not _LEAST <= median(every.values()) * SCALE_DIVISOR <= _MOST:
        yield _foreign(every)
        return
    for (stage, part_name, projection), values in roles.items():
        if len(values) >= _PEERS:
            yield from _peers(f"{projection} in the {stage}'s {part_name}", values)


def _foreign(every: dict[str, float]) -> Fault:
    middle = median(every.values())
    found = f"{middle:.6g} is the median of all {len(every):,}: largest weights of {middle * SCALE_DIVISOR:.4g}"
    expected = f"weights of a trained model: {_LEAST:.3f} to {_MOST:.0f}"
    return Fault(next(iter(every)), found, expected, f"another convention: {_AGAIN}", blames=tuple(every))


def _peers(role: str, values: dict[str, float]) -> Iterator[Fault]:
    """Faults where the scale of one layer is far from the others of its role."""
    middle = median(values.values())
    for name, value in values.items():
        if not middle * _BELOW <= value <= middle * _ABOVE:
            low = middle * _FAR_BELOW <= value < middle
            yield Fault(
                name,
                f"{value:.6g}, {value / middle:.3g} times the median",
                f"within a factor of {_ABOVE:.0f} of {middle:.6g}, the median of {len(values)} {role}",
                f"compare the source: an expert that training never reached, or {_AGAIN}" if low else _AGAIN,
                "warning" if low else "error",
            )


CHECK = Check("global-scales", "consistent", __doc__, _find, after=("block-scales",), reads="scales")
