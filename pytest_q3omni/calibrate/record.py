"""The calibration record as files: `record.json` says what was seen, `record.safetensors` holds the numbers.

    record.safetensors: input_amax F32 [sites]; expert_tokens.MODALITY I64 [experts modules, experts]
    record.json: names of the sites and experts modules in the order of those tensors, samples, failures, versions, and
        the sha256 of the other file, so that two halves of different records are not taken for one

Written and read without torch and without the safetensors library; the same record gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pytest_q3omni.errors import Inconsistent, Unreadable
from pytest_q3omni.omni.config import read_json
from pytest_q3omni.omni.durable import check_new_directory, publish, unwritable, write_file
from pytest_q3omni.omni.safetensors_file import LENGTH_BYTES, Entry, header_length, layout, parse_header
from pytest_q3omni.omni.untrusted_files import check_inside, read_at_most
from pytest_q3omni.records import CalibrationRecord, SampleFailure, TensorInfo

SCHEMA = 1
JSON, TENSORS = "record.json", "record.safetensors"
_AMAX, _TOKENS = "input_amax", "expert_tokens."
_MAX_BYTES = 1 << 24  # 2 million numbers; full size has 35,000
_MOST_MODALITIES = 100
_FIX = "calibrate again, or copy both files of the record again"
T = TypeVar("T")


def encode_record(record: CalibrationRecord) -> dict[str, bytes]:
    """File name -> content of the record's two files.

    Raises:
        Inconsistent: modalities name different experts modules, or those have different numbers of experts.
    """
    import numpy as np

    sites = sorted(record.input_amax)
    modules = sorted({module for tokens in record.expert_tokens.values() for module in tokens})
    arrays = {_AMAX: np.array([record.input_amax[site] for site in sites], "<f4")}
    for modality, tokens in record.expert_tokens.items():
        widths = {len(counts) for counts in tokens.values()} or {0}
        if sorted(tokens) != modules or len(widths) > 1:
            expected = "the same experts for every modality and layer"
            raise Inconsistent(f"experts that differ ({modality})", where="record", expected=expected)
        counts = np.array([tokens[module] for module in modules], "<i8")
        arrays[_TOKENS + modality] = counts.reshape(len(modules), widths.pop())
    kinds = {"f": "F32", "i": "I64"}
    infos = [TensorInfo(name, kinds[array.dtype.kind], array.shape) for name, array in arrays.items()]
    planned = layout(infos)
    data = planned.header + b"".join(arrays[tensor.name].tobytes() for tensor in planned.tensors)
    described = {
        "schema": SCHEMA,
        "recipe": record.recipe,
        "source_fingerprint": record.source_fingerprint,
        "source_weights": record.source_weights,
        "input_sites": sites,
        "experts_modules": modules,
        "samples_total": record.samples_total,
        "samples": dict(record.samples),
        "failures": [{"sample": failure.sample, "cause": failure.cause} for failure in record.failures],
        "versions": dict(record.versions),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    text = json.dumps(described, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    return {JSON: text.encode(), TENSORS: data}


def save_record(record: CalibrationRecord, path: Path) -> None:
    """Write the record to the new directory `path`: whole, or not at all.

    Raises:
        InvalidRequest: `path` holds something already.
        Unwritable: no space, no permission.
    """
    check_new_directory(path, "RECORD")
    files = encode_record(record)
    stage = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        stage.mkdir(parents=True)
        for name, data in files.items():
            write_file(stage / name, data)
        publish(stage, path)
    except OSError as error:
        raise unwritable(error, path) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def load_record(path: Path) -> CalibrationRecord:
    """Read a record directory. Values are not judged here: a NaN amax is the judge's and the packer's to refuse.

    Raises:
        Unreadable: a file is missing or damaged, or not a record of this schema.
        Inconsistent: the two files do not belong together.
    """
    described = read_json(path / JSON)
    place = str(path / JSON)
    schema = described.get("schema")
    if schema != SCHEMA:
        fix = "read it with the release that wrote it, or calibrate again"
        raise Unreadable(f"schema is {schema!r:.60}", where=place, expected=f"schema {SCHEMA}", fix=fix)
    sites = _names(described, "input_sites", place)
    modules = _names(described, "experts_modules", place)
    arrays = _read_tensors(path / TENSORS, _field(described, "sha256", str, place))
    return CalibrationRecord(
        recipe=_field(described, "recipe", str, place),
        source_fingerprint=_field(described, "source_fingerprint", str, place),
        input_amax=dict(zip(sites, _rows(arrays, _AMAX, len(sites), 1, path), strict=True)),
        expert_tokens={
            name.removeprefix(_TOKENS): {
                module: tuple(counts)
                for module, counts in zip(modules, _rows(arrays, name, len(modules), 2, path), strict=True)
            }
            for name in sorted(arrays)
            if name.startswith(_TOKENS)
        },
        samples_total=_field(described, "samples_total", int, place),
        samples=_table(described, "samples", int, place),
        failures=tuple(
            SampleFailure(*(_field(item, key, str, f"{place}: failures") for key in ("sample", "cause")))
            for item in _field(described, "failures", list, place)
        ),
        versions=_table(described, "versions", str, place),
        source_weights=_field({"source_weights": "", **described}, "source_weights", str, place),
    )


def _field(values: Any, key: str, kind: type[T], place: str) -> T:
    value = values.get(key) if isinstance(values, Mapping) else None
    if type(value) is not kind or (isinstance(value, int) and value < 0):
        found = f"{key} is {value!r}"[:80]
        raise Unreadable(found, where=place, expected=f"a calibration record ({key}: {kind.__name__})", fix=_FIX)
    return value


def _table(values: Any, key: str, kind: type[T], place: str) -> dict[str, T]:
    table = _field(values, key, dict, place)
    return {str(name): _field(table, name, kind, f"{place}: {key}") for name in table}


def _names(values: Any, key: str, place: str) -> list[str]:
    names = _field(values, key, list, place)
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise Unreadable(f"{key} is no list of different names", where=place, expected="a calibration record", fix=_FIX)
    return names


def _read_tensors(file: Path, expected: str) -> dict[str, Any]:
    """Tensor name -> array, after checking the file's digest."""
    import numpy as np

    check_inside(file)
    try:
        data = read_at_most(file, _MAX_BYTES)
    except OSError as error:
        raise Unreadable(error.strerror or str(error), where=str(file), expected="a readable file", fix=_FIX) from error
    if data is None:
        found = f"more than {_MAX_BYTES:,} bytes"
        raise Unreadable(found, where=str(file), expected="a calibration record, a few MB", fix=_FIX)
    if hashlib.sha256(data).hexdigest() != expected:
        found = f"its sha256 is not the one in {JSON}"
        raise Inconsistent(found, where=str(file), expected="two files of one record", fix=_FIX)
    length = header_length(file, data[:LENGTH_BYTES], len(data))
    header = parse_header(file, data[LENGTH_BYTES : LENGTH_BYTES + length], len(data))
    known = {"F32": "<f4", "I64": "<i8"}

    def array(entry: Entry) -> Any:
        if entry.info.dtype not in known:
            expected = "F32 and I64"
            raise Unreadable(f"{entry.info.name} is {entry.info.dtype}", where=str(file), expected=expected, fix=_FIX)
        return np.frombuffer(data[entry.begin : entry.end], known[entry.info.dtype]).reshape(entry.info.shape)

    if len(header) > _MOST_MODALITIES:
        found = f"{len(header):,} tensors"
        raise Unreadable(found, where=str(file), expected="one for each modality, and the amax", fix=_FIX)
    return {name: array(entry) for name, entry in header.items()}


def _rows(arrays: Mapping[str, Any], name: str, count: int, dimensions: int, path: Path) -> list[Any]:
    """A tensor's rows, `count` of them."""
    array = arrays.get(name)
    if array is None or array.ndim != dimensions or len(array) != count or (count and not array.size):
        shape = "missing" if array is None else f"of shape {list(array.shape)}"
        expected = f"{count} rows, as {JSON} names them"
        raise Inconsistent(f"{name} is {shape}", where=str(path / TENSORS), expected=expected, fix=_FIX)
    return list(array.tolist())
