"""Sound packed checkpoints to start from, made once per session from the tiny model and its record; no torch."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from pytest_q3omni.api import verify
from pytest_q3omni.calibrate.record import load_record
from pytest_q3omni.omni.checkpoint import open_checkpoint
from pytest_q3omni.omni.tiny import checkpoint_path, record_path
from pytest_q3omni.pack.write import write_checkpoint
from pytest_q3omni.plan.build import DEFAULT_SHARD_BYTES, build_plan
from pytest_q3omni.records import Judgement
from pytest_q3omni.verify.judge import judge

FAULTS = Path(__file__).parents[1] / "faults"
_SHARDED = "sharded"
_SHARD_BYTES = 1_000_000  # four shards
sys.path.insert(0, str(FAULTS))  # fault files import `_checkpoint_edit`


def make(base: str, out: Path) -> Path:
    """Pack the tiny model: `base` is a recipe, or "sharded" for `nvfp4-default` in several shards."""
    recipe = "nvfp4-default" if base == _SHARDED else base
    shard_bytes = _SHARD_BYTES if base == _SHARDED else DEFAULT_SHARD_BYTES
    plan = build_plan(checkpoint_path(), recipe, max_shard_bytes=shard_bytes)
    calibrated = plan.numerics == "w4a4"
    write_checkpoint(
        open_checkpoint(checkpoint_path()),
        plan,
        out,
        record=load_record(record_path()) if calibrated else None,
        record_files=record_path() if calibrated else None,
    )
    return out


def judged(directory: Path, given: tuple[str, ...] = ("source", "record")) -> Judgement:
    """Judge with the tiny original and the checkpoint's own record, or with less."""
    source = checkpoint_path() if "source" in given else None
    return verify(directory, source=source) if "record" in given else judge(directory, source=source)


def fault_names() -> list[str]:
    """The catalogue: every file of `tests/faults` that does not begin with `_`."""
    return sorted(file.stem for file in FAULTS.glob("*.py") if not file.stem.startswith("_"))


def load_fault(name: str) -> ModuleType:
    """The module of one fault."""
    spec = importlib.util.spec_from_file_location(f"fault_{name}", FAULTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SoundCheckpoint = Callable[[str], Path]
