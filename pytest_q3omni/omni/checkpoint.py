"""A checkpoint directory as its files say: config, headers, companions. Reads no weights until asked, trusts nothing.

`scan` collects what is wrong (for the judge), `open_checkpoint` raises the first fault (for everything that builds on
the checkpoint). Only `*.safetensors` is ever read as weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_q3omni.errors import CheckpointError, Inconsistent, InvalidRequest, Unreadable
from pytest_q3omni.omni.config import THINKER_TYPE, read_json
from pytest_q3omni.omni.naming import is_fused_expert_file
from pytest_q3omni.omni.safetensors_file import Entry
from pytest_q3omni.omni.stages import expected_tensors
from pytest_q3omni.omni.storage import LOCAL, Span, Storage
from pytest_q3omni.records import TensorInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pytest_q3omni.omni.hub_files import HubFiles

_SAMPLE_BYTES = 4096
_MOST_FILES = 10_000  # that an index may name; full size has 15
MOST_TENSORS = 1_000_000  # in all files together; each costs half a kilobyte of memory
CONFIG, INDEX, SINGLE = "config.json", "model.safetensors.index.json", "model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A directory and what its headers say.

    entries: every tensor of every readable shard. index: tensor -> file as the index says, None without an index.
    problems: faults of the container itself, each one an error that was not raised. storage: what its bytes are read
    through; of a checkpoint on a hub, `path` holds the small files only. index_total: the bytes that the index claims,
    as it says them: anything, from anyone.
    """

    path: Path
    config: Mapping[str, Any]
    entries: Mapping[str, Entry]
    index: Mapping[str, str] | None
    problems: tuple[CheckpointError, ...]
    storage: Storage = LOCAL
    index_total: Any = None

    @property
    def tensors(self) -> list[TensorInfo]:
        return [entry.info for entry in self.entries.values()]

    @property
    def holds_weights(self) -> bool:
        """False for a checkpoint on a hub, of which headers, scales and other small tensors can be read."""
        return self.storage.holds_weights

    def names(self) -> list[str]:
        """The names of all files in the checkpoint's directory."""
        return self.storage.names(self.path)

    @property
    def files(self) -> list[Path]:
        """The weight files, sorted."""
        return sorted({entry.file for entry in self.entries.values()})

    def read(
        self, name: str, out: NDArray[np.uint8] | None = None, *, start: int = 0, stop: int | None = None
    ) -> NDArray[np.uint8]:
        """Raw bytes `start` to `stop` of a tensor.

        out: a reusable uint8 buffer at least as long; the result is then a view of it.

        Raises:
            Unreadable: the file got shorter since its header was read.
            WeightsNotHeld: the checkpoint is on a hub, and the tensor is neither a scale nor small.
        """
        import numpy as np

        entry = self.entries[name]
        begin, end = entry.begin + start, entry.end if stop is None else entry.begin + stop
        target = np.empty(end - begin, np.uint8) if out is None else out[: end - begin]
        self.storage.read(Span(entry.file, begin, end, name), target)
        return target

    def array(self, name: str) -> NDArray[Any]:
        """A tensor as a numpy array; BF16 and F8_E4M3 as ml_dtypes. Shape as in the header."""
        entry = self.entries[name]
        whole: NDArray[Any] = self.read(name).view(numpy_dtype(entry.info.dtype))
        return whole.reshape(entry.info.shape)

    def weights_sample(self) -> str:
        """sha256 over the first 4 KiB of every tensor: tells a fine-tune from its parent, which share all headers.

        Reads 110 MB of the full-size model. Same weights in other shards give the same value.
        """
        total = hashlib.sha256()
        for name, entry in sorted(self.entries.items()):
            total.update(name.encode())
            total.update(self.read(name, stop=min(_SAMPLE_BYTES, entry.end - entry.begin)).tobytes())
        return total.hexdigest()

    def fingerprint(self) -> str:
        """sha256 over config and headers (names, dtypes, shapes; not the weights)."""
        return fingerprint(self.config, self.tensors)


def thinker_of(checkpoint: Checkpoint) -> Checkpoint:
    """The thinker of a whole model as it would be alone: its config, and its tensors under names without the prefix."""
    prefix = "thinker."
    entries = {
        name.removeprefix(prefix): entry._replace(info=replace(entry.info, name=name.removeprefix(prefix)))
        for name, entry in checkpoint.entries.items()
        if name.startswith(prefix)
    }
    config = {**checkpoint.config.get("thinker_config", {}), "model_type": THINKER_TYPE}
    return replace(checkpoint, config=config, entries=entries)


def fingerprint(config: Mapping[str, Any], tensors: list[TensorInfo]) -> str:
    """sha256 (hex) over a config and the names, dtypes and shapes of its tensors, in any order."""
    listing = sorted((tensor.name, tensor.dtype, tensor.shape) for tensor in tensors)
    return hashlib.sha256(json.dumps([config, listing], sort_keys=True).encode()).hexdigest()


def numpy_dtype(dtype: str) -> Any:
    """The numpy (or ml_dtypes) dtype of a safetensors dtype that occurs in checkpoints.

    Raises:
        Inconsistent: a dtype that numpy cannot hold.
    """
    import ml_dtypes
    import numpy as np

    known = {
        "BF16": ml_dtypes.bfloat16,
        "F8_E4M3": ml_dtypes.float8_e4m3fn,
        "F8_E5M2": ml_dtypes.float8_e5m2,
        "F32": np.float32,
        "F16": np.float16,
        "F64": np.float64,
        "U8": np.uint8,
        "I8": np.int8,
        "BOOL": np.bool_,
        "I16": np.int16,
        "U16": np.uint16,
        "I32": np.int32,
        "U32": np.uint32,
        "I64": np.int64,
        "U64": np.uint64,
    }
    if dtype not in known:
        raise Inconsistent(f"dtype {dtype}", expected=f"one of {', '.join(known)}", fix="convert the tensor")
    return np.dtype(known[dtype])


def scan(place: Path | HubFiles) -> Checkpoint:
    """Read config, index and all headers, collecting faults.

    Raises:
        Unreadable: no such directory, or no readable config.json (nothing to judge then).
        Unreachable: a hub does not answer.
    """
    if not isinstance(place, Path):
        with place.naming_errors():
            return _scan(place.directory, place)
    _refuse_address(place)
    try:
        if not place.is_dir():
            raise Unreadable(
                "no such directory" if not place.exists() else "not a directory",
                where=str(place),
                expected="a Hugging Face model directory",
                fix="check the path",
            )
        return _scan(place, LOCAL)
    except OSError as error:  # a directory that may not be listed, a path too long
        found, fix = error.strerror or str(error), "check the path and its permissions"
        raise Unreadable(found, where=str(place), expected="a readable directory", fix=fix) from error


def _scan(path: Path, storage: Storage) -> Checkpoint:
    config = read_json(path / CONFIG)
    problems: list[CheckpointError] = []
    index, total = _read_index(path, problems)
    entries: dict[str, Entry] = {}
    files = _weight_files(path, index, storage, problems)
    for file, header in zip(files, storage.headers(files), strict=True):
        if isinstance(header, CheckpointError):
            problems.append(header)
            continue
        if len(entries) + len(header) > MOST_TENSORS:
            found = f"its {len(header):,} tensors make more than {MOST_TENSORS:,}"
            fix = "take it out: no model of this kind has as many"
            problems.append(Inconsistent(found, where=str(file), expected="84,000, as full size", fix=fix))
            continue
        for name in header.keys() & entries.keys():
            other = entries[name].file.name
            problems.append(Inconsistent(f"stored in {other} and in {file.name}", where=name, fix="delete one"))
        entries.update(header)
    if not entries and not problems:
        fix = "q3omni reads safetensors only; download or save the weights as such"
        problems.append(Unreadable("no *.safetensors file", where=str(path), expected="weights", fix=fix))
    return Checkpoint(path, config, entries, index, tuple(problems), storage, total)


def _read_index(path: Path, problems: list[CheckpointError]) -> tuple[Mapping[str, str] | None, Any]:
    """(tensor -> file, the total size it claims)."""
    file = path / INDEX
    if not file.exists():
        return None, None
    try:
        content = read_json(file)
        weight_map, metadata = content.get("weight_map"), content.get("metadata")
        if not isinstance(weight_map, dict) or not all(isinstance(value, str) for value in weight_map.values()):
            problems.append(Unreadable("no weight_map of names", where=str(file), fix="write the index again"))
        elif len(weight_map) > MOST_TENSORS or len(set(weight_map.values())) > _MOST_FILES:
            found = f"{len(weight_map):,} tensors in {len(set(weight_map.values())):,} files"
            expected = f"at most {MOST_TENSORS:,} in {_MOST_FILES:,}"
            problems.append(Unreadable(found, where=str(file), expected=expected, fix="write the index again"))
        else:
            return weight_map, metadata.get("total_size") if isinstance(metadata, Mapping) else None
    except CheckpointError as error:
        problems.append(error)
    return None, None


def _weight_files(
    path: Path, index: Mapping[str, str] | None, storage: Storage, problems: list[CheckpointError]
) -> list[Path]:
    """All shards in the directory, and those that only the index knows; none may lie outside."""
    listed = set() if index is None else set(index.values())
    present = {name for name in storage.names(path) if name.endswith(".safetensors")}
    chosen = []
    for name in sorted(listed | present):
        file = path / name
        if Path(name).name != name:
            fix = "write the index again; a checkpoint must not reach outside itself"
            problems.append(Inconsistent("leaves the checkpoint's directory", where=str(file), fix=fix))
        elif (fault := storage.fault(file)) is not None:
            problems.append(fault)
        else:
            chosen.append(file)
    return chosen


def open_checkpoint(place: Path | HubFiles) -> Checkpoint:
    """A checkpoint to build on.

    Raises:
        Unreadable, Inconsistent: the first fault of the container; fused 3-D expert files, by name.
        Unreachable: a hub does not answer.
    """
    checkpoint = scan(place)
    if checkpoint.problems:
        with nullcontext() if isinstance(place, Path) else place.naming_errors():
            raise checkpoint.problems[0]
    for name in checkpoint.entries:
        if is_fused_expert_file(name):
            raise Inconsistent(
                "all experts of a layer fused into one 3-D tensor",
                where=f"{place}: {name}",
                expected="one file tensor per expert, `experts.N.gate_proj.weight`, as on the hub",
                fix="load it with transformers and save it again with save_pretrained, which unfuses",
            )
    return checkpoint


def _refuse_address(path: Path) -> None:
    """A clear word for addresses, which a Path mangles: only directories on this machine are read."""
    scheme = path.parts[0] if path.parts else ""
    if scheme.endswith(":") and len(scheme) > 2:  # a Windows drive has one letter
        fix = "download it and name its directory; `q3omni verify` and `plan` take hf://owner/name"
        raise InvalidRequest(f"an address ({scheme}//)", where=str(path), expected="a local directory", fix=fix)


def source_tensors(place: Path | HubFiles) -> tuple[Mapping[str, Any], list[TensorInfo]]:
    """Config and tensors of SRC: a directory or a repository (its headers), one with a config alone, or a config file.

    Raises:
        Unreadable, Inconsistent: as `open_checkpoint`; or the config is not Qwen3-Omni's.
        Unreachable: a hub does not answer.
    """
    if not isinstance(place, Path):
        if place.has_weights():
            return _source(place)
        with place.naming_errors():
            return _described(place.directory / CONFIG)
    _refuse_address(place)
    if place.is_dir() and (any(place.glob("*.safetensors")) or (place / INDEX).exists()):
        return _source(place)
    return _described(place / CONFIG if place.is_dir() else place.resolve())  # a link that the caller named himself


def _source(place: Path | HubFiles) -> tuple[Mapping[str, Any], list[TensorInfo]]:
    checkpoint = open_checkpoint(place)
    return checkpoint.config, checkpoint.tensors


def _described(file: Path) -> tuple[Mapping[str, Any], list[TensorInfo]]:
    config = read_json(file)
    return config, expected_tensors(config, str(file))
