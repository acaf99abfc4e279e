"""Sound packed checkpoints to start from, made once per session from the tiny model and its record; no torch."""

from __future__ import annotations

import importlib.util
import shutil
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
sys.path.insert(0, str(FAULTS))  # fault files import `_checkpoint_edit`

import foreign_checkpoints as foreign  # noqa: E402  # needs it, too

_SHARD_BYTES = 1_000_000  # four shards
_CT = "compressed-tensors"
OWN_BASES = ("nvfp4-default", "nvfp4-mlp-weight-only", "sharded")
"""The bases in the layout of our recipes, whose answers can be compared."""
_PACKED = {  # name -> (recipe, layout, most bytes of a shard)
    "nvfp4-default": ("nvfp4-default", "modelopt", DEFAULT_SHARD_BYTES),
    "nvfp4-mlp-weight-only": ("nvfp4-mlp-weight-only", "modelopt", DEFAULT_SHARD_BYTES),
    "sharded": ("nvfp4-default", "modelopt", _SHARD_BYTES),
    "bf16": ("bf16", "modelopt", DEFAULT_SHARD_BYTES),
    "ct-w4a4": ("nvfp4-default", _CT, DEFAULT_SHARD_BYTES),
    "ct-w4a16": ("nvfp4-mlp-weight-only", _CT, DEFAULT_SHARD_BYTES),
}
_CHANGED: dict[str, tuple[str, Callable[[Path], None]]] = {  # name -> (the base it is made of, how)
    "plain-nvfp4": ("nvfp4-default", foreign.declared_plainly),
    "mixed": ("nvfp4-default", foreign.attention_in_fp8),
    "ct-mixed": ("ct-w4a4", foreign.attention_in_fp8),
    "ct-mixed-dynamic": ("ct-w4a4", foreign.attention_in_dynamic_fp8),
    "fp8-kv": ("nvfp4-default", foreign.with_kv_scales),
    "ct-fp8-kv": ("ct-w4a4", foreign.with_kv_scales),
    "thinker-only": ("nvfp4-default", foreign.thinker_only),
}
BASES = ("hub-cache", "qwen3-moe", *_PACKED.keys() - {"bf16"}, *_CHANGED)
"""Every sound packed base."""


def make(base: str, out: Path) -> Path:
    """Make a sound checkpoint in `out`, without the hashes that our own packer leaves: they must not find a fault."""
    if base == "qwen3-moe-bf16":
        return foreign.text_model(out)
    if base == "qwen3-moe":
        return foreign.packed_text_model(out)
    if base == "hub-cache":
        return foreign.as_hub_cache(make("sharded", out.with_name("files")), out)
    if base in _CHANGED:
        start, change = _CHANGED[base]
        change(make(start, out))
        return out
    recipe, layout, shard_bytes = _PACKED[base]
    plan = build_plan(checkpoint_path(), recipe, layout_name=layout, max_shard_bytes=shard_bytes)
    calibrated = plan.numerics == "w4a4"
    write_checkpoint(
        open_checkpoint(checkpoint_path()),
        plan,
        out,
        record=load_record(record_path()) if calibrated else None,
        record_files=record_path() if calibrated else None,
    )
    (out / "q3omni" / "provenance.json").unlink()
    return out


class Sound:
    """Name of a base -> its directory under `home`, made on first use. Not to be written to."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._places: dict[str, Path] = {}

    def __call__(self, base: str) -> Path:
        if base not in self._places:
            self._places[base] = make(base, self._home / base / "checkpoint")
        return self._places[base]

    def copy(self, base: str, place: Path) -> Path:
        """The checkpoint, to be damaged, in a copy under the new folder `place`. Links stay links."""
        sound = self(base)
        shutil.copytree(self._home / base, place, symlinks=True)
        return place / sound.relative_to(self._home / base)

    def original(self, base: str) -> Path:
        """The BF16 original of a base."""
        return self("qwen3-moe-bf16") if base.startswith("qwen3-moe") else checkpoint_path()


SoundCheckpoint = Sound


def judged(directory: Path, given: tuple[str, ...] = ("source", "record"), original: Path | None = None) -> Judgement:
    """Judge with the original (the tiny's, if not told) and the checkpoint's own record, or with less."""
    assert not list(directory.glob("**/provenance.json"))
    source = (original or checkpoint_path()) if "source" in given else None
    return verify(directory, source=source) if "record" in given else judge(directory, source=source)


def passes(judgement: Judgement, *verdicts: str) -> None:
    """No error, and these verdicts pass, and no other."""
    assert not [finding for finding in judgement.findings if finding.severity == "error"]
    assert {verdict.name for verdict in judgement.verdicts if verdict.state == "pass"} == set(verdicts)


Copy = Callable[[str], Path]


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
