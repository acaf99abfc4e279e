"""A checkpoint's shapes without its weights: what an engine needs to run it with random ones."""

from __future__ import annotations

import json
from pathlib import Path

from pytest_q3omni.omni.checkpoint import CONFIG, source_tensors
from pytest_q3omni.omni.durable import write_file
from pytest_q3omni.pack.write import target_config
from pytest_q3omni.plan.build import build_plan
from pytest_q3omni.records import Plan

FULL_SIZE = Path(__file__).parents[1] / "omni" / "qwen3_omni_30b_config.json"
"""Qwen3-Omni-30B-A3B-Instruct: 35,259,818,545 parameters."""


def write_shapes(source: Path, out: Path, recipe: str) -> Plan:
    """Write the config.json that `recipe` makes of the model at `source`, a directory or a config file, into `out`.

    The plan that it is of; its tensors are what a checkpoint would hold.

    Raises:
        UnknownName: no such recipe. Unreadable, Inconsistent, InvalidRequest: SRC cannot be planned.
    """
    plan = build_plan(source, recipe)
    config, _ = source_tensors(source)
    out.mkdir(parents=True, exist_ok=True)
    write_file(out / CONFIG, json.dumps(target_config(config, plan), indent=2).encode())
    return plan
