"""From source weights, plan and record to the values that a packed checkpoint holds. The rules of ModelOpt's exporter.

Members of a fused group share one global scale, from the largest weight of all of them, and one input scale: engines
multiply them as one matrix. (`preprocess_linear_fusion` in modelopt/torch/export, 0.47.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from pytest_q3omni.errors import FormatError, NonFiniteAmax
from pytest_q3omni.nvfp4.format import SCALE_DIVISOR
from pytest_q3omni.records import CalibrationRecord, Plan, TensorPlan

if TYPE_CHECKING:
    import numpy as np


class Member(Protocol):
    """A member of a fused group: a plan's tensor, or a module that is packed already."""

    @property
    def module(self) -> str: ...


def fused_groups(plan: Plan) -> dict[str, tuple[TensorPlan, ...]]:
    """Group -> its packed members, in the plan's order."""
    groups: dict[str, list[TensorPlan]] = {}
    for tensor in plan.packed:
        groups.setdefault(tensor.group, []).append(tensor)
    return {name: tuple(members) for name, members in groups.items()}


def group_scale(amax: float, members: Iterable[Member]) -> np.float32:
    """Global scale of a fused group whose largest |weight| is `amax`: amax / 2688 in float32.

    Raises:
        FormatError: all weights of the group are zero. ModelOpt writes scale 0 and NaN block scales then; a layer of
            zeros in a trained model is a broken source.
    """
    from pytest_q3omni.nvfp4.codec import global_scale_for

    names = ", ".join(member.module for member in members)
    if amax == 0:
        raise FormatError(
            "all weights are zero",
            where=names,
            expected="a trained weight",
            fix="check the source checkpoint: an initialisation that skipped these tensors looks like this",
        )
    return global_scale_for(amax, where=names)


def input_scale(tensor: TensorPlan, record: CalibrationRecord) -> np.float32:
    """Input scale of a W4A4 tensor. Raises as `site_scale`, which it is for the tensor's input."""
    return site_scale(tensor.input_site, record, where=tensor.module)


def site_scale(site: str, record: CalibrationRecord, *, where: str = "") -> np.float32:
    """Input scale of the layers that read input `site`: the recorded amax / 2688 in float32. `where` opens messages.

    Raises:
        NonFiniteAmax: the record has no amax for this input, or one that is NaN, Inf, zero or negative.
    """
    import numpy as np

    amax = record.input_amax.get(site)
    if amax is None or not (math.isfinite(amax) and amax > 0):
        raise NonFiniteAmax(
            "no input amax in the calibration record" if amax is None else f"input amax {amax} in the record",
            where=where,
            expected=f"a finite amax above 0 for '{site}'",
            fix="calibrate with conversations that reach this layer",
        )
    return np.float32(amax) / np.float32(SCALE_DIVISOR)
