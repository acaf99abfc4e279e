"""The safetensors container: reading a header without trusting it, and laying one out to the byte.

Format (safetensors README): 8 bytes little-endian header length, JSON header, data. Each entry has dtype, shape and
`data_offsets` relative to the data. The reference library writes compact JSON, `__metadata__` first, tensors ordered
by dtype (widest alignment first) and then name, padded with spaces to a multiple of 8; `layout` gives the same bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from pytest_q3omni.errors import Inconsistent, Unreadable
from pytest_q3omni.records import TensorInfo

# Order of the library's Dtype enum, narrowest first; it serialises in the reverse order.
_DTYPES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E5M2": 1,
    "F8_E4M3": 1,
    "F8_E8M0": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "C64": 8,
    "F64": 8,
    "I64": 8,
    "U64": 8,
}
_RANK = {dtype: -position for position, dtype in enumerate(_DTYPES)}
_MOST_DIMENSIONS = 16  # the product of a million numbers would take hours
MAX_HEADER_BYTES = 100_000_000  # the library's own limit; a full-size packed header has 10.8 MB


def nbytes(tensor: TensorInfo) -> int:
    """Size in bytes of a tensor's data."""
    return prod(tensor.shape) * _DTYPES[tensor.dtype]


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor in a file: what it is, and where its bytes are (absolute offsets in the file)."""

    info: TensorInfo
    file: Path
    begin: int
    end: int


def read_header(file: Path) -> dict[str, Entry]:
    """Tensor name -> entry, after checking every claim of the header against the file's size.

    Raises:
        Unreadable: the file is missing or truncated, or its header is not what the format allows: too long, not JSON, a
            name listed twice, unknown dtype, negative or overlapping offsets, gaps, sizes that do not fit the shape.
    """
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            head = stream.read(8)
            length = int.from_bytes(head, "little")
            if head == b"version ":  # the first line of a pointer is "version https://git-lfs..."
                fix = "fetch the file itself: git lfs pull"
                raise Unreadable("a git-lfs pointer, not the weights", where=str(file), fix=fix)
            if len(head) < 8 or length > min(size - 8, MAX_HEADER_BYTES):
                raise _unreadable(file, f"header of {length} bytes announced, the file has {size} bytes")
            raw = stream.read(length)
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error)) from error
    try:
        header = json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _unreadable(file, f"the header is not valid JSON ({error})") from error
    if not isinstance(header, dict):
        raise _unreadable(file, "the header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _unreadable(file, "__metadata__ is no map of texts")
    entries = {name: _entry(file, name, claim, 8 + length) for name, claim in header.items()}
    _check_tiling(file, entries, 8 + length, size)
    return entries


def _unreadable(file: Path, found: str) -> Unreadable:
    return Unreadable(found, where=str(file), expected="a whole safetensors file", fix="copy or download it again")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"'{name}' is listed twice")
    return result


def _entry(file: Path, name: str, claim: Any, data_start: int) -> Entry:
    try:
        dtype, shape, (begin, end) = claim["dtype"], tuple(claim["shape"]), claim["data_offsets"]
        whole = all(type(number) is int and 0 <= number < 1 << 62 for number in (*shape, begin, end))
        name.encode()  # JSON can spell half a character, which nothing can print or write
    except (TypeError, KeyError, ValueError) as error:
        raise _unreadable(file, f"tensor {name!a} has a malformed entry") from error
    if len(shape) > _MOST_DIMENSIONS:
        raise _unreadable(file, f"tensor '{name}' has {len(shape)} dimensions")
    if not whole or not isinstance(dtype, str) or dtype not in _DTYPES:
        raise _unreadable(file, f"tensor '{name}' has dtype {dtype!r}, shape {list(shape)}, offsets [{begin}, {end}]")
    info = TensorInfo(name, dtype, shape)
    if end - begin != nbytes(info):
        raise _unreadable(file, f"tensor '{name}': {end - begin} bytes for {dtype} {list(shape)}")
    return Entry(info, file, data_start + begin, data_start + end)


def _check_tiling(file: Path, entries: dict[str, Entry], start: int, size: int) -> None:
    position, previous = start, "the header"
    for entry in sorted(entries.values(), key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != position:
            kind = "overlaps" if entry.begin < position else "leaves a gap after"
            raise _unreadable(file, f"tensor '{entry.info.name}' {kind} {previous}")
        position, previous = entry.end, f"'{entry.info.name}'"
    if position != size:
        raise _unreadable(file, f"the tensors end at byte {position}, the file has {size} bytes")


@dataclass(frozen=True, slots=True)
class Layout:
    """A file that is not written yet: its tensors in file order, header bytes, and each tensor's absolute offset."""

    tensors: tuple[TensorInfo, ...]
    header: bytes
    offsets: dict[str, int]
    data_bytes: int


def layout(tensors: Iterable[TensorInfo]) -> Layout:
    """Lay out a file as the reference library would write it with metadata {"format": "pt"}.

    Raises:
        Inconsistent: two tensors have the same name.
    """
    ordered = tuple(sorted(tensors, key=lambda tensor: (_RANK[tensor.dtype], tensor.name)))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for tensor in ordered:
        if tensor.name in header:
            raise Inconsistent("planned twice", where=tensor.name, fix="report this: a plan names each target once")
        end = position + nbytes(tensor)
        header[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (position, end)}
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    offsets = {name: start + claim["data_offsets"][0] for name, claim in header.items() if name != "__metadata__"}
    return Layout(ordered, len(text).to_bytes(8, "little") + text, offsets, position)
