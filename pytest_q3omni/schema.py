"""JSON forms of the records: what machines read from `--format json` and from `OUT/q3omni/plan.json`. Schema 1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pytest_q3omni.records import (
    Agreement,
    CalibrationRecord,
    Divergence,
    Facts,
    Finding,
    InputRange,
    Judgement,
    Parity,
    Plan,
    SpeechAgreement,
    SpeechSample,
    StageSize,
    Traffic,
    Verdict,
)

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
    """Per stage (or layer) its parameters, tensor bytes before and after, and the parameters that are packed."""
    return {name: asdict(size) for name, size in stages.items()}


def judgement_json(judgement: Judgement) -> dict[str, Any]:
    """The JSON of `q3omni verify`."""
    return {
        "schema": SCHEMA,
        "checkpoint": judgement.checkpoint,
        "verdicts": _verdicts(judgement.verdicts),
        "findings": [asdict(finding) for finding in judgement.findings],
        "facts": _facts(judgement.facts),
        "tensor_errors": {
            name: {"relative": _finite(relative), "worst_block": _finite(worst)}
            for name, (relative, worst) in judgement.tensor_errors.items()
        },
        "fetched": None if judgement.fetched is None else asdict(judgement.fetched),
    }


def judgement_from_json(data: Mapping[str, Any]) -> Judgement:
    """The inverse of `judgement_json`."""
    facts = dict(data["facts"])
    for part in ("stages", "layers"):
        facts[part] = {name: StageSize(**size) for name, size in facts[part].items()}
    errors = {name: (_number(of["relative"]), _number(of["worst_block"])) for name, of in data["tensor_errors"].items()}
    return Judgement(
        checkpoint=data["checkpoint"],
        verdicts=tuple(Verdict(name, of["state"], of["why"]) for name, of in data["verdicts"].items()),
        findings=tuple(Finding(**finding) for finding in data["findings"]),
        facts=Facts(**facts),
        tensor_errors=errors,
        fetched=None if data.get("fetched") is None else Traffic(**data["fetched"]),
    )


def _verdicts(verdicts: Sequence[Verdict]) -> dict[str, dict[str, str]]:
    return {verdict.name: {"state": verdict.state, "why": verdict.why} for verdict in verdicts}


def _facts(facts: Facts) -> dict[str, Any]:
    result = asdict(facts)
    result["stages"], result["layers"] = stages_json(facts.stages), stages_json(facts.layers)
    return result


def _finite(value: float) -> float | None:
    """JSON has no Infinity: null says that the error is not a number."""
    return value if math.isfinite(value) else None


def calibration_json(record: CalibrationRecord) -> dict[str, Any]:
    """What reports show of a calibration record: its samples, and the tokens of every expert by modality."""
    tokens = {kind: {layer: list(counts) for layer, counts in of.items()} for kind, of in record.expert_tokens.items()}
    return {
        "samples_total": record.samples_total,
        "samples_passed": record.samples_passed,
        "samples": dict(record.samples),
        "expert_tokens": tokens,
    }


def parity_json(parity: Parity) -> dict[str, Any]:
    """The JSON of `q3omni parity`; null stands for an infinite number."""
    plain: dict[str, Any] = _finite_numbers(asdict(parity))
    verdict = plain.pop("verdict")
    return {"schema": SCHEMA, "verdicts": _verdicts([Verdict(**verdict)]), **plain}


def _finite_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite_numbers(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite_numbers(each) for each in value]
    return _finite(value) if isinstance(value, float) else value


def parity_from_json(data: Mapping[str, Any]) -> Parity:
    """The inverse of `parity_json`."""
    name, answer = next(iter(data["verdicts"].items()))
    return Parity(
        original=data["original"],
        quantized=data["quantized"],
        device=data["device"],
        versions=data["versions"],
        verdict=Verdict(name, **answer),
        agreements=tuple(_agreement(row) for row in data["agreements"]),
        inputs=tuple(InputRange(**_numbers(row)) for row in data["inputs"]),
        speech=tuple(_speech(row) for row in data["speech"]),
        findings=tuple(Finding(**finding) for finding in data["findings"]),
    )


def _agreement(row: Mapping[str, Any]) -> Agreement:
    sides = {name: _divergence(row[name]) for name in ("divergence", "plain", "apart", "repeat")}
    return Agreement(**{**row, **sides, "limit": _number(row["limit"])})


def _divergence(row: Mapping[str, Any]) -> Divergence:
    return Divergence(**_numbers(row))


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of which none may be null: null is infinity."""
    return {name: _number(value) for name, value in row.items()}


def _number(value: Any) -> Any:
    return math.inf if value is None else value


def _speech(row: Mapping[str, Any]) -> SpeechAgreement:
    return SpeechAgreement(
        numerics=row["numerics"],
        codebooks=tuple(_divergence(each) for each in row["codebooks"]),
        samples=tuple(
            SpeechSample(**{**each, "text": tuple(each["text"]), "frames": tuple(each["frames"])})
            for each in row["samples"]
        ),
        spectrograms={name: tuple(map(tuple, rows)) for name, rows in row["spectrograms"].items()},
        spectrogram_seconds=row["spectrogram_seconds"],
    )
