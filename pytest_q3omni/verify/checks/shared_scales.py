"""q/k/v share one global scale, gate/up of an expert share one.

Engines keep one scale for the fused matrix. vLLM takes the largest for all members and only warns: the others come out
too large by the ratio. llm-compressor's `model_free_ptq` gives gate and up of 108 of 128 experts different ones (up to
11 % apart); ModelOpt#1411 ended in endless "1\\n1\\n".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from pytest_q3omni.omni.naming import fused_group
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject


def _find(subject: Subject) -> Iterator[Fault]:
    groups: dict[str, dict[str, float]] = defaultdict(dict)
    for packed in subject.sound_packed():
        value = subject.scalar(packed.global_scale)
        if value is not None:
            groups[fused_group(packed.module)][packed.global_scale] = value
    for group, values in groups.items():
        if len(set(values.values())) > 1:
            first, *others = values
            told = ", ".join(f"{name.split('.')[-2]} {value:.6g}" for name, value in values.items())
            apart = max(values.values()) / min(values.values()) - 1
            yield Fault(
                first,
                f"{told}: {apart:.2%} apart, and an engine uses one for all of {group.rpartition('.')[2]}",
                "one global scale, from the largest weight of the group",
                "pack the group again with a shared scale",
                blames=tuple(others),
            )


CHECK = Check("shared-scales", "consistent", __doc__, _find, after=("global-scales",))
