"""JSON forms of the records: what machines read from `--format json` and from `OUT/q3omni/plan.json`. Schema 1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pytest_q3omni.records import Facts, Judgement, Plan, StageSize

SCHEMA = 1


def plan_json(plans: Sequence[Plan]) -> dict[str, Any]:
    """The JSON of `q3omni plan`: one entry per recipe."""
    return {"schema": SCHEMA, "parameters": plans[0].parameters, "plans": [_plan(plan) for plan in plans]}


def _plan(plan: Plan) -> dict[str, Any]:
    return {
        "recipe": plan.recipe,
        "numerics": plan.numerics,
        "layout": plan.layout,
        "tensor_bytes": plan.tensor_bytes,
        "file_bytes": plan.file_bytes,
        "bits_per_parameter": plan.bits_per_parameter,
        "compression_ratio": plan.compression_ratio,
        "quantized_fraction": plan.quantized_fraction,
        "stages": stages_json(plan.stages),
        "shards": {shard.file: shard.file_bytes for shard in plan.shards},
        "source_fingerprint": plan.fingerprint,
    }


def stages_json(stages: Mapping[str, StageSize]) -> dict[str, dict[str, int]]:
    """Per stage its parameters, tensor bytes before and after, and the parameters that are packed."""
    return {name: asdict(size) for name, size in stages.items()}


def judgement_json(judgement: Judgement) -> dict[str, Any]:
    """The JSON of `q3omni verify`."""
    return {
        "schema": SCHEMA,
        "checkpoint": judgement.checkpoint,
        "verdicts": {verdict.name: {"state": verdict.state, "why": verdict.why} for verdict in judgement.verdicts},
        "findings": [asdict(finding) for finding in judgement.findings],
        "facts": _facts(judgement.facts),
        "tensor_errors": {
            name: {"relative": _finite(relative), "worst_block": _finite(worst)}
            for name, (relative, worst) in judgement.tensor_errors.items()
        },
    }


def _facts(facts: Facts) -> dict[str, Any]:
    result = asdict(facts)
    result["stages"] = stages_json(facts.stages)
    return result


def _finite(value: float) -> float | None:
    """JSON has no Infinity: null says that the error is not a number."""
    return value if math.isfinite(value) else None
