"""JSON on one stream and nothing else: what machines read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from pytest_q3omni.engines.cuda_code import Code
from pytest_q3omni.records import CalibrationRecord, Judgement, Parity, Plan
from pytest_q3omni.schema import SCHEMA, calibration_json, judgement_json, parity_json, plan_json
from pytest_q3omni.serve.examination import Examination


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


def render_examination(examination: Examination) -> str:
    """The examination as schema 1: its rows, and the facts that they are made of."""
    found = examination.found
    torches = {"torch": found.torch, "vllm_torch": found.vllm_torch}
    facts: dict[str, Any] = {
        "machine": asdict(found.machine),
        "devices": [asdict(device) for device in found.devices],
        **{
            name: None if torch is None else {**asdict(torch), **_codes(torch.architectures)}
            for name, torch in torches.items()
        },
        "vllm": None
        if found.vllm is None
        else {**asdict(found.vllm), "units": len(found.vllm.units), **_codes(found.vllm.codes)},
        "needs": {**asdict(found.needs), "cache_bytes": found.needs.cache_bytes, "total": found.needs.total},
        "experts": asdict(found.shapes),
        "numerics": found.numerics,
    }
    rows = [asdict(row) for row in examination.rows]
    return json.dumps({"schema": SCHEMA, "rows": rows, "facts": facts}, indent=2, allow_nan=False)


def _codes(codes: Iterable[Code]) -> dict[str, list[str]]:
    return {"architectures": [str(code) for code in sorted(set(codes))]}
