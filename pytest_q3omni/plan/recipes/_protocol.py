"""What a recipe file defines: one `RECIPE`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pytest_q3omni.records import Numerics, Plan


def no_remark(plan: Plan) -> str:  # noqa: ARG001  # the signature of every remark
    """Nothing to say."""
    return ""


@dataclass(frozen=True)
class Recipe:
    """A choice of what to pack.

    packs: stage -> its parts (see `omni/stages`); parts with a reason to stay unpacked are refused.
    numerics: "w4a4" needs calibration, "w4a16" needs none, "bf16" packs nothing.
    remark: what a reader of the plan should know, computed from the plan.
    """

    name: str
    summary: str
    numerics: Numerics
    packs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    remark: Callable[[Plan], str] = no_remark
