"""The model card: written from the plan's tensors, so that it cannot claim what the files do not hold."""

from __future__ import annotations

import re
from pathlib import Path

from pytest_q3omni.omni.checkpoint import Checkpoint
from pytest_q3omni.omni.stages import stages
from pytest_q3omni.omni.untrusted_files import inside, read_at_most
from pytest_q3omni.records import CalibrationRecord, Plan

_TEMPLATE = """\
---
library_name: transformers
base_model:
- {{ base }}
base_model_relation: quantized
{% for line in licence -%}
{{ line }}
{% endfor -%}
tags:
- nvfp4
- q3omni
---

# {{ name }}

{{ base }} with {{ "%.2f" | format(100 * plan.quantized_fraction) }} % of its \
{{ "{:,}".format(plan.parameters) }} parameters stored as NVFP4 \
(recipe `{{ plan.recipe }}`, {{ plan.numerics.upper() }}). \
{{ "%.2f" | format(plan.bits_per_parameter) }} bits per parameter, \
{{ "%.2f" | format(plan.compression_ratio) }}x smaller than the original.

| stage | parameters | bytes before | bytes now | packed parts | unpacked parts |
|---|---:|---:|---:|---|---|
{% for row in rows -%}
| {{ row.name }} | {{ "{:,}".format(row.size.parameters) }} | {{ "{:,}".format(row.size.source_bytes) }} | \
{{ "{:,}".format(row.size.tensor_bytes) }} | {{ row.packed or "none" }} | {{ row.kept or "none" }} |
{% endfor %}
{% if record -%}
Calibrated with {{ record.samples_passed }} of {{ record.samples_total }} conversations \
({% for modality, count in record.samples.items() %}{{ modality }} {{ count }}{{ ", " if not loop.last }}{% endfor %}).
{% elif plan.packed -%}
Weight-only: no calibration data was needed.
{% endif %}
Written by pytest-q3omni {{ version }} from the tensors of this checkpoint. Check \
it: `q3omni verify . --source ORIGINAL`.
"""


def model_card(source: Checkpoint, plan: Plan, record: CalibrationRecord | None, name: str, version: str) -> str:
    """README.md with `base_model` and the source's licence in its front matter."""
    from jinja2 import Environment

    parts: dict[str, dict[str, set[str]]] = {}
    for tensor in plan.tensors:
        parts.setdefault(tensor.stage, {"keep": set(), "nvfp4": set()})[tensor.action].add(tensor.part)
    rows = [
        {
            "name": stage.name,
            "size": plan.stages[stage.name],
            "packed": ", ".join(sorted(parts[stage.name]["nvfp4"])),
            "kept": ", ".join(sorted(parts[stage.name]["keep"])),
        }
        for stage in stages()
        if stage.name in plan.stages
    ]
    template = Environment(keep_trailing_newline=True, autoescape=False).from_string(_TEMPLATE)  # Markdown, not HTML
    return template.render(
        plan=plan,
        record=record,
        rows=rows,
        name=name,
        base=base_model(source),
        version=version,
        licence=licence_lines(source.path / "README.md"),
    )


def base_model(source: Checkpoint) -> str:
    """The source's name on the hub where its path or config tells, else its directory's name."""
    for part in source.path.resolve().parts:
        if part.startswith("models--"):
            return part.removeprefix("models--").replace("--", "/", 1)
    return str(source.config.get("_name_or_path") or "") or source.path.resolve().name


def licence_lines(card: Path) -> list[str]:
    """The `license*` lines of a model card's front matter; none where it has none."""
    try:
        raw = read_at_most(card, 16_000_000) if inside(card) else None
    except OSError:
        return []
    text = (raw or b"")[:20_000].decode("utf-8", errors="replace")
    front = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    return (
        [] if front is None else [line for line in front[1].splitlines() if re.match(r"license(_name|_link)?:", line)]
    )
