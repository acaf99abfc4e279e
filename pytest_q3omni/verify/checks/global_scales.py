"""Every global scale is finite, positive, and of the size that weights have.

The scale is amax / 2688: above 1 the largest weight would be beyond 2688. An inverted one (compressed-tensors stores
2688 / amax) is some ten thousand. Layers of one role in one model differ by a factor of ten or thirty; a factor of
1000 to their median is no weight any more.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from statistics import median

from pytest_q3omni.nvfp4.format import SCALE_DIVISOR
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject, part_of

_FAR = 1000.0
_PEERS = 3  # fewer have no median worth the name
_AGAIN = "pack this module again from the source"


def _find(subject: Subject) -> Iterator[Fault]:
    roles: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for packed in subject.sound_packed():
        value = subject.scalar(packed.global_scale)
        if value is None:
            continue
        if not (math.isfinite(value) and value > 0):
            yield Fault(packed.global_scale, f"{value:.6g}", "a finite number above 0", _AGAIN)
        elif value > 1:
            hint = f"; 1 / it would be plausible: an amax of {SCALE_DIVISOR / value:.3g}" if value > 100 else ""
            yield Fault(
                packed.global_scale,
                f"{value:.6g}, which means a largest weight of {value * SCALE_DIVISOR:.4g}{hint}",
                "amax / 2688: at most 1",
                f"an inverted or foreign scale: {_AGAIN}",
            )
        else:
            stage, part = part_of(packed.module)
            roles[stage, part.name if part else "", packed.module.rpartition(".")[2]][packed.global_scale] = value
    for (stage, part_name, projection), values in roles.items():
        middle = median(values.values())
        for name, value in values.items() if len(values) >= _PEERS else ():
            if not middle / _FAR <= value <= middle * _FAR:
                yield Fault(
                    name,
                    f"{value:.6g}, {value / middle:.3g} times the median",
                    f"within a factor of {_FAR:.0f} of {middle:.6g}, the median of {len(values)} {projection} "
                    f"in the {stage}'s {part_name}",
                    _AGAIN,
                )


CHECK = Check("global-scales", "consistent", __doc__, _find, after=("block-scales",))
