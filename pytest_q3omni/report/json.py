"""JSON on one stream and nothing else: what machines read."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pytest_q3omni.records import CalibrationRecord, Judgement, Parity, Plan
from pytest_q3omni.schema import calibration_json, judgement_json, parity_json, plan_json


def render_plans(plans: Sequence[Plan]) -> str:
    """The plans as schema 1."""
    return json.dumps(plan_json(plans), indent=2)


def render_judgement(
    judgement: Judgement, *, record: CalibrationRecord | None = None, parity: Parity | None = None
) -> str:
    """The judgement as schema 1; with what calibration saw, and with the parity, where they are known."""
    found = judgement_json(judgement)
    if record is not None:
        found["calibration"] = calibration_json(record)
    if parity is not None:
        found["parity"] = parity_json(parity)
    return json.dumps(found, indent=2, allow_nan=False)


def render_parity(parity: Parity) -> str:
    """The parity as schema 1."""
    return json.dumps(parity_json(parity), indent=2, allow_nan=False)
