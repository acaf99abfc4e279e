"""q/k/v share one global scale, gate/up of an expert share one.

Engines keep one scale for the fused matrix and only warn: the other members are multiplied by a scale that is not
theirs. vLLM 0.32 takes gate's for experts, and for dense layers the largest of the stored values (which is the largest
scale in ModelOpt's layout and the smallest in compressed-tensors', where scales divide). llm-compressor's
`model_free_ptq` gives gate and up of most experts different ones (16 % apart on a tiny model: up_proj's relative error
doubles); ModelOpt#1411 ended in endless "1\\n1\\n".
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from pytest_q3omni.nvfp4.format import SCALE_DIVISOR
from pytest_q3omni.omni.naming import experts_module, fused_group
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Packed, Subject

_MEASURED = 20  # groups whose error is measured against the source; each costs two passes over a weight


def _find(subject: Subject) -> Iterator[Fault]:
    groups: dict[str, dict[Packed, float]] = defaultdict(dict)
    for packed in subject.sound_packed():
        value = subject.global_scale(packed)
        if value is not None:
            groups[fused_group(packed.module)][packed] = value
    unequal = {group: values for group, values in groups.items() if len(set(values.values())) > 1}
    for number, (group, values) in enumerate(unequal.items()):
        used = _taken(subject, values)
        victim = max(values, key=lambda packed: max(values[packed] / used, used / values[packed]))
        told = ", ".join(f"{_projection(packed)} {subject.scalar(packed.global_scale):.6g}" for packed in values)
        apart = max(values.values()) / min(values.values()) - 1
        factor = used / values[victim]
        off = f"{factor - 1:.2%} too large" if factor > 1 else f"{1 - factor:.2%} too small"
        error = _error(subject, victim, used) if number < _MEASURED else ""
        names = [packed.global_scale for packed in values]
        yield Fault(
            _odd(subject, values, victim, read=number < _MEASURED).global_scale,
            f"{told}: {apart:.2%} apart, and an engine uses one for all of {group.rpartition('.')[2]}: with vLLM's "
            f"choice {_projection(victim)} comes out {off}{error}",
            "one global scale, from the largest weight of the group",
            "pack the group again with a shared scale",
            blames=tuple(names),
        )


def _odd(subject: Subject, values: Mapping[Packed, float], victim: Packed, *, read: bool) -> Packed:
    """The member that is wrong: the one unlike two others, or unlike what the source gives, or else the one that comes
    out wrong."""
    usual, count = Counter(values.values()).most_common(1)[0]
    if count > 1:
        return next(packed for packed, value in values.items() if value != usual)
    expected = _expected(subject, values) if read else 0.0
    return max(values, key=lambda packed: abs(math.log(values[packed] / expected))) if expected > 0 else victim


def _expected(subject: Subject, values: Mapping[Packed, float]) -> float:
    """amax / 2688 of the group in the source, 0 where it cannot be read."""
    import numpy as np

    from pytest_q3omni.verify.comparison import Buffers, comparable_module, source_weight

    if subject.source is None or not all(comparable_module(subject, packed) for packed in values):
        return 0.0
    weights = (source_weight(subject.source, packed, Buffers()) for packed in values)
    largest = max(float(np.abs(weight.astype(np.float32)).max()) for weight in weights)
    return largest / SCALE_DIVISOR if math.isfinite(largest) else 0.0


def _projection(packed: Packed) -> str:
    return packed.module.rpartition(".")[2]


def _taken(subject: Subject, values: Mapping[Packed, float]) -> float:
    """The scale that vLLM 0.32 takes for all members (`compressed_tensors_moe` and the NVFP4 linear methods)."""
    first = next(iter(values))
    if experts_module(first.module):
        return next((value for packed, value in values.items() if _projection(packed) == "gate_proj"), values[first])
    return min(values.values()) if subject.layout.inverted else max(values.values())


def _error(subject: Subject, packed: Packed, used: float) -> str:
    """The relative error of a member with its own scale and with the one that is taken; "" without the source."""
    import numpy as np

    from pytest_q3omni.nvfp4.codec import block_errors
    from pytest_q3omni.verify.comparison import Buffers, comparable_module, source_weight, stored_values

    if subject.source is None or not comparable_module(subject, packed):
        return ""
    buffers = Buffers()
    weight, own = source_weight(subject.source, packed, buffers), stored_values(subject, packed, buffers)
    mine, taken = (block_errors(weight, own._replace(global_scale=np.float32(s))) for s in (own.global_scale, used))
    return f", its relative error {mine.relative:.4f} becomes {taken.relative:.4f}"


CHECK = Check("shared-scales", "consistent", __doc__, _find, after=("global-scales", "source-match"), reads="scales")
