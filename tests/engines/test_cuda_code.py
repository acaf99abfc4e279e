"""Device code of compiled libraries: which architectures they hold, and what a device can run of it."""

import importlib.util
import struct
from pathlib import Path

import pytest

from pytest_q3omni.engines.cuda_code import Code, how_it_runs, parse_code, read_units, runs_on
from pytest_q3omni.errors import FormatError

pytestmark = pytest.mark.tiny

H100, B200, B300, THOR, RTX, SPARK, ORIN = (9, 0), (10, 0), (10, 3), (11, 0), (12, 0), (12, 1), (8, 7)
FLAGS = {"": 0x8011, "a": 0x108011, "f": 0x208011}


def entry(name: str, payload: bytes = b"code....") -> bytes:
    code = parse_code(name)
    assert code is not None
    number = 10 * code.capability[0] + code.capability[1]
    head = struct.pack(
        "<HHIQ12xIQQ", 2 if code.kind == "sm" else 1, 0x101, 64, len(payload), number, 0, FLAGS[code.suffix]
    )
    return head.ljust(64, b"\0") + payload


def container(*names: str) -> bytes:
    content = b"".join(map(entry, names))
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(content)) + content


def library(file: Path, section: bytes, name: bytes = b".nv_fatbin") -> Path:
    """A 64-bit ELF file with a section of names and one of device code."""
    names = b"\0.shstrtab\0" + name + b"\0"
    begin, names_at = 64, 64 + len(section)
    table = names_at + len(names)
    rows = [bytes(64), struct.pack("<IIQQQQ", 1, 3, 0, 0, names_at, len(names)).ljust(64, b"\0")]
    rows.append(struct.pack("<IIQQQQ", 11, 1, 2, 0, begin, len(section)).ljust(64, b"\0"))
    head = b"\x7fELF\x02\x01" + bytes(34) + struct.pack("<Q", table) + bytes(10) + struct.pack("<HHH", 64, 3, 1)
    file.write_bytes(head + section + names + b"".join(rows))
    return file


def shown(units: list[frozenset[Code]]) -> list[list[str]]:
    return [[str(code) for code in sorted(unit)] for unit in units]


def test_every_source_file_is_read_with_its_suffixes(tmp_path):
    code = container("sm_90", "sm_90a", "compute_80") + bytes(8) + container("sm_100f", "sm_121")
    found = shown(read_units(library(tmp_path / "it.so", code)))
    assert found == [["compute_80", "sm_90", "sm_90a"], ["sm_100f", "sm_121"]]


def test_a_library_without_device_code_has_none(tmp_path):
    assert read_units(library(tmp_path / "it.so", container("sm_90"), b".rodata")) == []


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda raw: b"MZ" + raw[2:], "not a 64-bit"),
        (lambda raw: raw[:40], "ends before|no table"),
        (lambda raw: raw[:70], "ends before"),
        (lambda raw: raw.replace(struct.pack("<I", 0xBA55ED50), b"abcd"), "no container"),
        (lambda raw: raw[:72] + struct.pack("<Q", 1 << 40) + raw[80:], "no container"),
        (lambda raw: raw[:84] + struct.pack("<I", 0) + raw[88:], "no entry"),
        (lambda raw: raw[:88] + struct.pack("<Q", 1 << 40) + raw[96:], "no entry"),
        (lambda raw: raw[:108] + struct.pack("<I", 5000) + raw[112:], "no entry"),
        (lambda raw: raw[:40] + b"\xff" * 8 + raw[48:], "offset"),
    ],
)
def test_anything_else_is_not_known(tmp_path, spoil, found):
    file = library(tmp_path / "it.so", container("sm_90"))
    assert shown(read_units(file)) == [["sm_90"]]
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(FormatError, match=found):
        read_units(file)


@pytest.mark.parametrize("name", ["", "sm_9", "sm_90b", "gfx942", "sm_1000", "sm_90 "])
def test_names_that_are_no_architecture(name):
    assert parse_code(name) is None


@pytest.mark.parametrize(
    ("name", "runs", "does_not"),
    [
        ("sm_80", [ORIN], [H100, THOR]),
        ("sm_90", [H100], [B200, ORIN]),
        ("sm_90a", [H100], [B200]),
        ("sm_100", [B200, B300], [THOR, RTX, H100]),
        ("sm_100a", [B200], [B300, THOR]),
        ("sm_100f", [B200, B300], [THOR, RTX]),
        ("sm_110", [THOR], [B200, SPARK]),
        ("sm_120f", [RTX, SPARK], [THOR, B200]),
        ("sm_121", [SPARK], [RTX]),
        ("compute_80", [ORIN, H100, THOR, SPARK], [(7, 5)]),
        ("compute_90a", [H100], [B200, THOR]),
        ("compute_120f", [RTX, SPARK], [THOR]),
    ],
)
def test_what_runs_where(name, runs, does_not):
    code = parse_code(name)
    assert code is not None
    assert all(runs_on(code, capability) for capability in runs)
    assert not any(runs_on(code, capability) for capability in does_not)


def test_machine_code_is_preferred_to_ptx():
    both = [parse_code("compute_80"), parse_code("sm_90")]
    assert [how_it_runs(both, capability) for capability in (H100, THOR, (7, 5))] == ["machine code", "ptx", ""]


def test_torch_as_it_is_installed():
    """Its CUDA build names its architectures itself: the file has to hold exactly their major versions."""
    spec = importlib.util.find_spec("torch")
    file = None if spec is None or spec.origin is None else Path(spec.origin).parent / "lib" / "libtorch_cuda.so"
    if file is None or not file.exists():
        pytest.skip("needs a CUDA build of torch")
    torch = pytest.importorskip("torch", reason="needs torch")
    named = {parse_code(name) for name in torch._C._cuda_getArchFlags().split()}
    held = {code for unit in read_units(file) for code in unit}
    assert named <= held
