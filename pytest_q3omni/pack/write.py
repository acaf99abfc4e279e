"""Writing a checkpoint so that it is either whole or absent.

Everything is written into a staging directory beside OUT, shard by shard, each synced to disk before it counts as done;
at the end the directory is renamed to OUT. A killed run leaves only the staging directory, which no loader takes for a
checkpoint: its config.json comes last. The next run with the same source, plan and record goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_q3omni import __version__
from pytest_q3omni.errors import InvalidRequest, Unwritable
from pytest_q3omni.layouts import layout
from pytest_q3omni.omni.checkpoint import CONFIG, INDEX, Checkpoint
from pytest_q3omni.omni.companions import companion_files
from pytest_q3omni.omni.durable import check_new_directory, publish, sync_directory, unwritable, write_file
from pytest_q3omni.pack.card import model_card
from pytest_q3omni.pack.stream import Packer, chunk_bytes
from pytest_q3omni.records import CalibrationRecord, Plan, Progress, no_progress
from pytest_q3omni.schema import plan_json

OWN = "q3omni"  # our folder within a checkpoint
_STATE = "state.json"


def staging_directory(out: Path) -> Path:
    """Where a run towards `out` works until it is done."""
    return out.with_name(f".{out.name}.q3omni-partial")


def write_checkpoint(
    source: Checkpoint,
    plan: Plan,
    out: Path,
    *,
    record: CalibrationRecord | None = None,
    record_files: Path | None = None,
    max_memory: int = 2 << 30,
    progress: Progress = no_progress,
) -> None:
    """Pack `source` into the new directory `out` as the plan says.

    record_files: the record's directory; its two files are copied into `out/q3omni/`.

    Raises:
        InvalidRequest: another run writes to `out`, or the memory limit is too low.
        FormatError, NonFiniteAmax: a tensor that cannot be packed; named.
        Unwritable: no space, no permission. What is done so far is kept for the next run.
    """
    check_new_directory(out, "OUT")
    chunk = chunk_bytes(max_memory, plan)
    stage = staging_directory(out)
    with _writing(out), _only_writer(stage):
        done = _Done(stage, _identity(source, plan, record))
        check_space(out, plan)
        written = sum(shard.data_bytes for shard in plan.shards if shard.file in done.shards)

        def advance(count: int) -> None:
            nonlocal written
            written += count
            progress("packing", written, plan.tensor_bytes)

        packer = Packer(source, plan, record, chunk, advance)
        for shard in plan.shards:
            if shard.file not in done.shards:
                packer.write_shard(shard, stage / shard.file)
                done.add(shard.file)
        _write_companions(source, stage)
        _write_own(stage, plan, record_files, done)
        _write_index(stage, plan)
        write_file(stage / "README.md", model_card(source, plan, record, out.name, __version__).encode())
        with done.forgotten():
            _write_json(stage / CONFIG, target_config(source.config, plan))
            sync_directory(stage / OWN)
            publish(stage, out)


def target_config(source: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """The source's config with the plan's declaration.

    And with `text_config.tie_word_embeddings`, which transformers leaves out where it is false and vLLM reads: without
    it vLLM 0.26 with transformers 5.17 dies at start (seen on an H100).
    """
    config = {key: value for key, value in source.items() if key != "quantization_config"}
    thinker = dict(config["thinker_config"])
    text = {"tie_word_embeddings": thinker.get("tie_word_embeddings", False), **thinker["text_config"]}
    config["thinker_config"] = {**thinker, "text_config": text}
    if plan.packed:
        config["quantization_config"] = layout(plan.layout).quantization_config(plan)
    return config


class _Done:
    """The shards that an earlier run finished, by file name, with their sha256."""

    def __init__(self, stage: Path, identity: str) -> None:
        self._stage, self._identity = stage, identity
        self.shards: dict[str, str] = {}
        state = self._read()
        if state.get("identity") == identity:
            self.shards = {name: digest for name, digest in state["shards"].items() if self._unchanged(name, digest)}
        # Whatever is not finished goes: a half-written shard has its disk space reserved already.
        for leftover in stage.iterdir():
            if leftover.name != _STATE and leftover.name not in self.shards:
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

    def _read(self) -> Mapping[str, Any]:
        try:
            state = json.loads((self._stage / _STATE).read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}  # no state, or one that a kill cut short: start again
        return state if isinstance(state, dict) and isinstance(state.get("shards"), dict) else {}

    def _unchanged(self, name: str, digest: str) -> bool:
        file = self._stage / name
        return file.is_file() and _sha256(file) == digest

    def add(self, name: str) -> None:
        self.shards[name] = _sha256(self._stage / name)
        self._save()

    @contextmanager
    def forgotten(self) -> Iterator[None]:
        """Without the state file, which is no part of a checkpoint. Where publishing fails the work stays usable."""
        (self._stage / _STATE).unlink(missing_ok=True)
        try:
            yield
        except OSError:
            (self._stage / CONFIG).unlink(missing_ok=True)  # nothing may look whole
            self._save()
            raise

    def _save(self) -> None:
        _write_json(self._stage / _STATE, {"identity": self._identity, "shards": self.shards})


def _identity(source: Checkpoint, plan: Plan, record: CalibrationRecord | None) -> str:
    """What must be equal for shards of an earlier run to be usable: source files, plan, record, code."""
    files = [(file.name, stat.st_size, stat.st_mtime_ns) for file in source.files for stat in (file.stat(),)]
    amax = sorted(record.input_amax.items()) if record else []
    parts = [__version__, str(source.path.resolve()), files, plan_json([plan]), amax]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _write_companions(source: Checkpoint, stage: Path) -> None:
    """Tokenizer, processor, chat template, generation config and licence files, byte for byte."""
    for file in companion_files(source.path):
        write_file(stage / file.name, file.read_bytes())


def _write_own(stage: Path, plan: Plan, record_files: Path | None, done: _Done) -> None:
    """Plan, record and provenance."""
    own = stage / OWN
    own.mkdir(exist_ok=True)
    _write_json(own / "plan.json", plan_json([plan]))
    hashes = {"plan.json": _sha256(own / "plan.json")}
    if record_files is not None:
        for name in ("record.json", "record.safetensors"):
            write_file(own / name, (record_files / name).read_bytes())
            hashes[name] = _sha256(own / name)
    provenance = {
        "schema": 1,
        "code_version": __version__,
        "source_fingerprint": plan.fingerprint,
        "sha256": {**hashes, **done.shards},
    }
    _write_json(own / "provenance.json", provenance)


def _write_index(stage: Path, plan: Plan) -> None:
    """The index that several shards need; `total_size` counts tensor data alone, as on the hub."""
    (stage / INDEX).unlink(missing_ok=True)
    if len(plan.shards) > 1:
        weight_map = {tensor.name: shard.file for shard in plan.shards for tensor in shard.tensors}
        index = {"metadata": {"total_size": plan.tensor_bytes}, "weight_map": dict(sorted(weight_map.items()))}
        _write_json(stage / INDEX, index)


def _write_json(file: Path, value: Mapping[str, Any]) -> None:
    write_file(file, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_space(out: Path, plan: Plan) -> None:
    """Return if the disk has room for what is still to be written; finished shards of an earlier run count.

    Raises:
        Unwritable: it has not.
    """
    stage = staging_directory(out)
    present = sum(shard.file_bytes for shard in plan.shards if (stage / shard.file).exists())
    place = next(place for place in (stage, *stage.absolute().parents) if place.exists())
    needed, free = plan.file_bytes - present, shutil.disk_usage(place).free
    if needed > free:
        raise Unwritable(
            f"{free / 1e6:,.1f} MB free",
            where=str(place),
            expected=f"{needed / 1e6:,.1f} MB for the shards",
            fix="free disk space or choose another OUT, then run the same command again",
        )


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Make the staging directory, and turn the operating system's refusals into one sentence."""
    try:
        staging_directory(out).mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise unwritable(error, Path(error.filename or out)) from error


@contextmanager
def _only_writer(stage: Path) -> Iterator[None]:
    """Hold the lock of a staging directory."""
    from filelock import FileLock, Timeout

    lock = FileLock(stage.with_name(f"{stage.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        fix = "wait for it, or stop it"
        raise InvalidRequest("another run is writing this checkpoint", where=str(stage), fix=fix) from error
    try:
        yield
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)
