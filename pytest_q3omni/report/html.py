"""One HTML file, offline: verdicts, sizes before and after, findings, errors per layer, tokens per expert."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_q3omni import __version__
from pytest_q3omni.records import CalibrationRecord, Judgement, Plan

_LAYER = re.compile(r"^(?P<layer>.*\.layers\.\d+)\.(?:.*\.)?(?P<projection>\w+_proj)$")


def render_judgement(judgement: Judgement, *, plan: Plan | None = None, record: CalibrationRecord | None = None) -> str:
    """The report as one page; plan and record add what they know. Every figure is in the JSON, too."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["thousands"] = lambda number: f"{number:,}"
    template = environment.from_string(Path(__file__).with_name("report.html.jinja").read_text(encoding="utf-8"))
    return template.render(
        judgement=judgement,
        plan=plan,
        record=record,
        version=__version__,
        layers=_layer_errors(judgement.tensor_errors),
        experts=_expert_rows(record),
        widest=max((size.source_bytes for size in judgement.facts.stages.values()), default=1) or 1,
    )


def _layer_errors(errors: Mapping[str, tuple[float, float]]) -> list[dict[str, Any]]:
    """Per layer and projection: tensors, mean and largest relative error, largest error of a block."""
    rows: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for name, pair in errors.items():
        module = name.removesuffix(".weight")
        match = _LAYER.match(module)
        rows.setdefault((match["layer"], match["projection"]) if match else (module, ""), []).append(pair)
    return [
        {
            "layer": layer,
            "projection": projection,
            "tensors": len(pairs),
            "mean": sum(pair[0] for pair in pairs) / len(pairs),
            "largest": max(pair[0] for pair in pairs),
            "block": max(pair[1] for pair in pairs),
        }
        for (layer, projection), pairs in rows.items()
    ]


def _expert_rows(record: CalibrationRecord | None) -> list[dict[str, Any]]:
    """Per layer and modality the tokens of every expert, with their share of the busiest one (0 to 1)."""
    if record is None:
        return []
    rows = []
    for modality, layers in record.expert_tokens.items():
        for module, counts in layers.items():
            top = max(counts, default=0) or 1
            cells = [{"expert": expert, "tokens": count, "share": count / top} for expert, count in enumerate(counts)]
            rows.append({"layer": module.removesuffix(".mlp.experts"), "modality": modality, "cells": cells})
    return sorted(rows, key=lambda row: (row["layer"], row["modality"]))
