"""JSON on one stream and nothing else: what machines read."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pytest_q3omni.records import Judgement, Plan
from pytest_q3omni.schema import judgement_json, plan_json


def render_plans(plans: Sequence[Plan]) -> str:
    """The plans as schema 1."""
    return json.dumps(plan_json(plans), indent=2)


def render_judgement(judgement: Judgement) -> str:
    """The judgement as schema 1."""
    return json.dumps(judgement_json(judgement), indent=2)
