"""The tiny model packed in a layout, in several shards; and with more layers than it has."""

import json
from dataclasses import replace
from pathlib import Path

from pytest_q3omni.calibrate.record import load_record
from pytest_q3omni.omni.checkpoint import Checkpoint, open_checkpoint
from pytest_q3omni.omni.tiny import checkpoint_path, record_path
from pytest_q3omni.pack.write import write_checkpoint
from pytest_q3omni.plan.build import build_plan


def pack(out: Path, layout: str = "modelopt", recipe: str = "nvfp4-default") -> Checkpoint:
    plan = build_plan(checkpoint_path(), recipe, layout_name=layout, max_shard_bytes=10**6)
    record = load_record(record_path()) if recipe == "nvfp4-default" else None
    write_checkpoint(open_checkpoint(checkpoint_path()), plan, out, record=record)
    return open_checkpoint(out)


def with_config(checkpoint: Checkpoint, change) -> Checkpoint:
    config = json.loads(json.dumps(checkpoint.config))
    change(config)
    return replace(checkpoint, config=config)
