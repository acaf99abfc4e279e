"""The safetensors container: reading a header without trusting it, and laying one out to the byte.

Format (safetensors README): 8 bytes little-endian header length, JSON header, data. Each entry has dtype, shape and
`data_offsets` relative to the data. The reference library writes compact JSON, `__metadata__` first, tensors ordered
by dtype (widest alignment first) and then name, padded with spaces to a multiple of 8; `layout` gives the same bytes.
"""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from pytest_q3omni.errors import Inconsistent, Unreadable
from pytest_q3omni.omni.untrusted_files import open_regular
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
_MOST = 1 << 62  # of any number in a header
_MOST_ENTRIES, _MOST_VALUES = 1_000_000, 12_000_000  # of a header; full size has 84,000 tensors, ten values each
_LONGEST_NAME = 500  # characters; real names have a hundred
LENGTH_BYTES = 8  # a file begins with the length of its header
MAX_HEADER_BYTES = 100_000_000  # the library's own limit; a full-size packed header has 10.8 MB


def nbytes(tensor: TensorInfo) -> int:
    """Size in bytes of a tensor's data."""
    return prod(tensor.shape) * _DTYPES[tensor.dtype]


class Entry(NamedTuple):
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
        with BufferedReader(open_regular(file)) as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            length = header_length(file, stream.read(LENGTH_BYTES), size)
            return parse_header(file, stream.read(length), size)
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error)) from error


def header_length(file: Path, head: bytes, size: int) -> int:
    """Length in bytes of the JSON header of a file of `size` bytes that begins with `head` (`LENGTH_BYTES` of it).

    Raises:
        Unreadable: the file is no safetensors file, or shorter than its header.
    """
    length = int.from_bytes(head, "little")
    if head == b"version ":  # the first line of a pointer is "version https://git-lfs..."
        fix = "fetch the file itself: git lfs pull"
        raise Unreadable("a git-lfs pointer, not the weights", where=str(file), fix=fix)
    if len(head) < LENGTH_BYTES or length > min(size - LENGTH_BYTES, MAX_HEADER_BYTES):
        raise _unreadable(file, f"header of {length} bytes announced, the file has {size} bytes")
    return length


def parse_header(file: Path, raw: bytes, size: int) -> dict[str, Entry]:
    """The entries in the JSON header `raw` of a file of `size` bytes; see `read_header`."""
    if raw.count(b"{") > _MOST_ENTRIES or raw.count(b",") + raw.count(b"[") > _MOST_VALUES:
        raise _unreadable(file, f"the header holds more than {_MOST_ENTRIES:,} entries or {_MOST_VALUES:,} values")
    with no_collection():
        return _entries(file, raw, size)


@contextmanager
def no_collection() -> Iterator[None]:
    """Without the cycle collector, which takes a third of the time of reading 80,000 entries, and a seventh of judging
    them, and finds nothing: they have no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _entries(file: Path, raw: bytes, size: int) -> dict[str, Entry]:
    try:
        header = _parse(raw)
    except (ValueError, RecursionError) as error:
        raise _unreadable(file, f"the header is not valid JSON ({error})") from error
    if not isinstance(header, dict):
        raise _unreadable(file, "the header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _unreadable(file, "__metadata__ is no map of texts")
    start = LENGTH_BYTES + len(raw)
    entries = {name: _entry(file, name, claim, start) for name, claim in header.items()}
    _check_tiling(file, entries, start, size)
    return entries


def _unreadable(file: Path, found: str) -> Unreadable:
    return Unreadable(found, where=str(file), expected="a whole safetensors file", fix="copy or download it again")


def _parse(raw: bytes) -> Any:
    """The JSON value; of an object that names a key twice, json would keep the last.

    Every key has a colon. Where the text has no more colons than the value has keys, no key was dropped; asking each
    object for its pairs doubles the time of 80,000 entries, so that is left to texts with colons elsewhere.
    """
    text = raw.decode()  # bytes of any UTF would do for json, and the library takes UTF-8 alone
    value = json.loads(text)
    if isinstance(value, dict):
        keys = len(value) + sum(len(claim) for claim in value.values() if isinstance(claim, dict))
        if raw.count(b":") == keys:
            return value
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"'{name[:_LONGEST_NAME]}' is listed twice")
    return result


def _entry(file: Path, name: str, claim: Any, data_start: int) -> Entry:
    try:
        dtype, shape, (begin, end) = claim["dtype"], tuple(claim["shape"]), claim["data_offsets"]
        whole = {type(begin), type(end), *map(type, shape)} == {int} and min(begin, end, *shape) >= 0
        if not name.isascii():
            name.encode()  # JSON can spell half a character, which nothing can print or write
    except (TypeError, KeyError, ValueError) as error:
        raise _unreadable(file, f"tensor {name[:_LONGEST_NAME]!a} has a malformed entry") from error
    if len(name) > _LONGEST_NAME:
        raise _unreadable(file, f"a tensor's name has {len(name):,} characters: '{name[:80]}...'")
    if len(shape) > _MOST_DIMENSIONS:
        raise _unreadable(file, f"tensor '{name}' has {len(shape)} dimensions")
    if not whole or max(begin, end, *shape) >= _MOST or not isinstance(dtype, str) or dtype not in _DTYPES:
        told = f"dtype {dtype!r:.40}, shape {list(shape)!r:.200}, offsets [{begin!r:.40}, {end!r:.40}]"
        raise _unreadable(file, f"tensor '{name}' has {told}")
    if 0 in shape and prod(filter(None, shape)) >= _MOST >> 4:
        raise _unreadable(file, f"tensor '{name}' is empty and has the shape {list(shape)}, which no array can have")
    if end - begin != prod(shape) * _DTYPES[dtype]:
        raise _unreadable(file, f"tensor '{name}': {end - begin} bytes for {dtype} {list(shape)}")
    return Entry(TensorInfo(name, dtype, shape), file, data_start + begin, data_start + end)


def _check_tiling(file: Path, entries: dict[str, Entry], start: int, size: int) -> None:
    position = start
    for entry in entries.values():  # in a header that a library wrote, they follow each other
        if entry.begin != position:
            position = _tiled(file, entries, start)
            break
        position = entry.end
    if position != size:
        raise _unreadable(file, f"the tensors end at byte {position}, the file has {size} bytes")


def _tiled(file: Path, entries: dict[str, Entry], start: int) -> int:
    """Where the tensors end that follow each other in another order than they are listed in."""
    position, previous = start, "the header"
    for entry in sorted(entries.values(), key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != position:
            kind = "overlaps" if entry.begin < position else "leaves a gap after"
            raise _unreadable(file, f"tensor '{entry.info.name}' {kind} {previous}")
        position, previous = entry.end, f"'{entry.info.name}'"
    return position


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
