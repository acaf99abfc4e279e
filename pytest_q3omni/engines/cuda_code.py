"""For which GPUs a compiled library holds code, read from its bytes, and which of it a device can run.

A CUDA build carries its device code in the ELF section `.nv_fatbin`: one container per source file, with an entry for
each architecture. The layout is read off vLLM 0.26.0's own libraries: entries that are not compressed hold ELF files
whose flags repeat the architecture, and the build names the architectures (9.0a for FlashAttention 3, 10.0f and 12.0f
for FP4). What does not look like that is "not known", never a guess.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from pytest_q3omni.errors import FormatError

Capability = tuple[int, int]

_SECTIONS = (".nv_fatbin", "__nv_relfatbin")
_MAGIC = 0xBA55ED50
_CONTAINER = struct.Struct("<IHHQ")  # magic, version, bytes of this header, bytes of all entries
_ENTRY = struct.Struct("<HHIQ12xIQQ")  # kind, version, header bytes, payload bytes, ..., architecture, ..., flags
_PTX, _CUBIN = 1, 2
_EXACT, _FAMILY = 1 << 20, 1 << 21  # flags of sm_90a and sm_100f
_MOST_SECTIONS, _MOST_ENTRIES, _MOST_NAMES = 4096, 200_000, 1 << 20
_NAME = re.compile(r"(sm|compute)_(\d{2,3})([af]?)")


@dataclass(frozen=True, order=True)
class Code:
    """Device code for one architecture: `sm_110` is machine code, `compute_80` is PTX, which a driver compiles.

    suffix: "a" for instructions of this capability alone, "f" for those of its family; FP4 arithmetic is among them.
    """

    kind: Literal["sm", "compute"]
    capability: Capability
    suffix: str = ""

    def __str__(self) -> str:
        major, minor = self.capability
        return f"{self.kind}_{major}{minor}{self.suffix}"


def parse_code(name: str) -> Code | None:
    """The code that a name such as `sm_90a` stands for, as `torch.cuda.get_arch_list()` spells it; None for others."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return Code("sm" if match[1] == "sm" else "compute", divmod(int(match[2]), 10), match[3])


def runs_on(code: Code, capability: Capability) -> bool:
    """Whether a device of this compute capability can run the code.

    The rules of NVIDIA's CUDA C++ Programming Guide ("Binary Compatibility", "PTX Compatibility", "Family-Specific
    Architecture Features"): machine code runs on the same major and an equal or higher minor capability; PTX is
    compiled for any equal or higher capability; "f" is held to the same major, "a" to exactly its own. sm_100 is no
    code for a Thor (11.0), nor sm_110 for a Spark (12.1).
    """
    if code.suffix == "a":
        return code.capability == capability
    same_major = code.capability[0] == capability[0]
    if code.kind == "sm" or code.suffix == "f":
        return same_major and code.capability <= capability
    return code.capability <= capability


def how_it_runs(codes: Iterable[Code], capability: Capability) -> Literal["machine code", "ptx", ""]:
    """The best that there is for a device: machine code, PTX that its driver compiles at first use, or nothing."""
    fitting = [code for code in codes if runs_on(code, capability)]
    if any(code.kind == "sm" for code in fitting):
        return "machine code"
    return "ptx" if fitting else ""


def read_units(library: Path) -> list[frozenset[Code]]:
    """The code of every compiled source file in an ELF library; an empty list where it has none for a GPU.

    Reads headers only: some kilobytes of a file of hundreds of megabytes.

    Raises:
        FormatError: not a 64-bit little-endian ELF file, or its device code is laid out in an unknown way.
        OSError: it cannot be read.
    """
    with library.open("rb") as file:
        try:
            return [unit for begin, size in _sections(file) for unit in _containers(file, begin, begin + size)]
        except struct.error as error:
            raise _unknown(library.name, "ends before its headers do") from error
        except _Unknown as error:
            raise _unknown(library.name, str(error)) from error


class _Unknown(Exception):
    """What was met, in words."""


def _unknown(name: str, found: str) -> FormatError:
    return FormatError(found, where=name, expected="an ELF library with CUDA code as CUDA 12 and 13 write it")


def _sections(file: BinaryIO) -> list[tuple[int, int]]:
    """(offset, size) of the sections that hold device code."""
    head = file.read(64)
    if head[:6] != b"\x7fELF\x02\x01":
        raise _Unknown("not a 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", head, 40)
    width, count, names_at = struct.unpack_from("<HHH", head, 58)
    if width != 64 or not names_at < count <= _MOST_SECTIONS:
        raise _Unknown("no table of sections")
    rows = [struct.unpack("<IIQQQQ", _at(file, table + 64 * number, 64)[:40]) for number in range(count)]
    names = _at(file, rows[names_at][4], min(rows[names_at][5], _MOST_NAMES))
    wanted = [(row[4], row[5]) for row in rows if _text(names, row[0]) in _SECTIONS]
    end = file.seek(0, 2)
    if any(begin + size > end for begin, size in wanted):
        raise _Unknown("device code that goes on beyond the file")
    return wanted


def _text(names: bytes, begin: int) -> str:
    return names[begin : begin + 32].split(b"\0")[0].decode("ascii", "replace")


def _containers(file: BinaryIO, begin: int, end: int) -> Iterator[frozenset[Code]]:
    entries = 0
    while begin + _CONTAINER.size <= end:
        magic, _, header, size = _CONTAINER.unpack(_at(file, begin, _CONTAINER.size))
        if magic == 0:  # the linker aligns containers with zeros
            begin += 8
            entries += 1
        elif magic != _MAGIC or header < _CONTAINER.size or begin + header + size > end:
            raise _Unknown(f"no container of device code at byte {begin:,}")
        else:
            unit = list(_entries(file, begin + header, begin + header + size))
            entries += len(unit) + 1
            yield frozenset(unit)
            begin += header + size
        if entries > _MOST_ENTRIES:
            raise _Unknown(f"more than {_MOST_ENTRIES:,} pieces of device code")


def _entries(file: BinaryIO, begin: int, end: int) -> Iterator[Code]:
    count = 0
    while begin + _ENTRY.size <= end:
        kind, _, header, size, number, _, flags = _ENTRY.unpack(_at(file, begin, _ENTRY.size))
        if header < _ENTRY.size or begin + header + size > end or not 20 <= number < 1000:
            raise _Unknown(f"no entry of device code at byte {begin:,}")
        suffix = "a" if flags & _EXACT else "f" if flags & _FAMILY else ""
        if kind in (_PTX, _CUBIN):
            yield Code("sm" if kind == _CUBIN else "compute", divmod(number, 10), suffix)
        begin += header + size
        count += 1
        if count > _MOST_ENTRIES:
            raise _Unknown(f"more than {_MOST_ENTRIES:,} pieces of device code")


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    if offset > 1 << 48:
        raise _Unknown("an offset beyond any file")
    file.seek(offset)
    return file.read(size)
