"""Our reading of compressed-tensors' tensors against what that library itself says they mean.

`make_compressed_tensors_vectors.py` wrote the vectors with compressed-tensors 0.20. Read here as the layout reads them:
codes and block scales as they are, the global scale inverted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from pytest_q3omni.layouts import layout
from pytest_q3omni.nvfp4 import Packed, unpack_tensor
from pytest_q3omni.nvfp4.codec import block_errors
from pytest_q3omni.nvfp4.format import SCALE_DIVISOR
from pytest_q3omni.omni.safetensors_file import read_header
from pytest_q3omni.records import TensorInfo

pytestmark = pytest.mark.tiny

VECTORS = Path(__file__).parent / "data" / "compressed_tensors_vectors.safetensors"
FAMILIES = {"trained", "ties", "zeros", "wide", "extremes", "fused", "float32"}
READING = 3 * 2.0**-24
"""They compute `code * (scale / stored)`, we `code * (scale * (1 / stored))`: each rounding is worth 2**-24."""

_DTYPES = {"BF16": ml_dtypes.bfloat16, "F8_E4M3": ml_dtypes.float8_e4m3fn, "F32": np.float32, "U8": np.uint8}

Case = dict[str, np.ndarray]
Reading = Callable[[Case], np.ndarray]


@pytest.fixture(scope="module")
def vectors() -> dict[str, Case]:
    """Case -> role -> tensor."""
    content, found = VECTORS.read_bytes(), {}
    for name, entry in read_header(VECTORS).items():
        case, _, role = name.rpartition(".")
        data = np.frombuffer(content[entry.begin : entry.end], _DTYPES[entry.info.dtype])
        found.setdefault(case, {})[role] = data.reshape(entry.info.shape)
    return found


@pytest.fixture(scope="module")
def weights(vectors: dict[str, Case]) -> dict[str, Case]:
    return {name: case for name, case in vectors.items() if name != "input"}


def packed(case: Case) -> Packed:
    stored = case["weight_global_scale"].item()
    return Packed(case["weight_packed"], case["weight_scale"], np.float32(1) / np.float32(stored))


def read(case: Case) -> np.ndarray:
    return unpack_tensor(packed(case))


def differing(weights: dict[str, Case], reading: Reading) -> list[str]:
    """The cases in which a reading is not theirs, each with the first element that shows it."""
    found = []
    for name, case in weights.items():
        ours, theirs = reading(case), case["values"]
        wrong = np.argwhere(np.abs(ours - theirs) > READING * np.abs(theirs))
        if len(wrong):
            row, column = wrong[0]
            found.append(f"{name}[{row}, {column}]: {ours[row, column]}, compressed-tensors says {theirs[row, column]}")
    return found


def test_every_family_is_there(weights: dict[str, Case]) -> None:
    assert {name.split(".")[0] for name in weights} == FAMILIES
    assert VECTORS.stat().st_size < 200_000


def test_the_script_and_its_vectors_belong_together(weights: dict[str, Case]) -> None:
    """Names and shapes; another torch may draw other random numbers."""
    pytest.importorskip("torch", reason="needs the quantize extra: pip install pytest-q3omni[quantize]")
    from make_compressed_tensors_vectors import cases

    found = {name: weight for group in cases() for name, weight in group.items()}
    assert {name: tuple(weight.shape) for name, weight in found.items()} == {
        name: case["weight"].shape for name, case in weights.items()
    }


def test_names_dtypes_and_shapes_are_the_layouts(weights: dict[str, Case]) -> None:
    headers = read_header(VECTORS)
    for name, case in weights.items():
        source = TensorInfo(f"{name}.weight", "BF16", case["weight"].shape)
        targets = layout("compressed-tensors").targets(source, "w4a16")
        assert targets == tuple(headers[target.name].info for target in targets)


def test_we_read_what_they_mean(weights: dict[str, Case]) -> None:
    assert not differing(weights, read)


def test_exactly_where_the_inverse_is_exact(weights: dict[str, Case]) -> None:
    """A stored scale that is a power of two leaves nothing to round; -0.0 counts as 0, as everywhere here."""
    exact = [case for case in weights.values() if np.frexp(case["weight_global_scale"].item())[0] == 0.5]
    assert exact
    for case in exact:
        assert np.array_equal(read(case), case["values"])


def test_scales_are_divisors(vectors: dict[str, Case], weights: dict[str, Case]) -> None:
    """2688 / amax of the fused group, to the two BF16 roundings it went through; for activations in float32."""
    group = [weights["fused.0.gate_proj"], weights["fused.0.up_proj"]]
    (stored,) = {case["weight_global_scale"].item() for case in group}
    amax = max(np.abs(case["weight"].astype(np.float32)).max() for case in group)
    assert stored == pytest.approx(SCALE_DIVISOR / amax, rel=2.0**-7)
    assert vectors["input"]["global_scale"] == pytest.approx(SCALE_DIVISOR / vectors["input"]["amax"], rel=2.0**-22)


@pytest.mark.parametrize("family", ["trained", "fused", "float32"])
def test_their_packing_keeps_our_error_bound(weights: dict[str, Case], family: str) -> None:
    for name, case in weights.items():
        if name.startswith(family):
            errors = block_errors(case["weight"], packed(case), where=name)
            assert errors.worst_share <= 1, name
            assert errors.relative < 0.11, name


def test_a_block_below_the_smallest_scale_goes_beyond_our_bound(weights: dict[str, Case]) -> None:
    """Where ModelOpt raises a block scale to 2**-9 they write 0.125, and every code of the block is 0."""
    case = weights["wide.1"]
    errors = block_errors(case["weight"], packed(case))
    assert 1 < errors.worst_share < 3
    row, block = errors.worst_share_block
    assert case["weight_scale"][row, block] == 0.125
    assert not (case["weight_packed"][row, 8 * block : 8 * block + 8] & 0x77).any()
    assert case["weight"][row, 16 * block : 16 * block + 16].any()


def exchanged_nibbles(case: Case) -> np.ndarray:
    codes = case["weight_packed"]
    return read(case | {"weight_packed": (codes >> 4 | codes << 4).astype(np.uint8)})


def global_scale_as_stored(case: Case) -> np.ndarray:
    return read(case | {"weight_global_scale": 1 / case["weight_global_scale"]})


def without_signs(case: Case) -> np.ndarray:
    return read(case | {"weight_packed": case["weight_packed"] & 0x77})


def scales_one_block_late(case: Case) -> np.ndarray:
    return read(case | {"weight_scale": np.roll(case["weight_scale"], 1, axis=1)})


def scales_by_column(case: Case) -> np.ndarray:
    scales = case["weight_scale"]
    return read(case | {"weight_scale": np.ascontiguousarray(scales.T).reshape(scales.shape)})


@pytest.mark.parametrize(
    "reading",
    [exchanged_nibbles, global_scale_as_stored, without_signs, scales_one_block_late, scales_by_column],
    ids=lambda reading: reading.__name__,
)
def test_a_wrong_reading_is_caught(weights: dict[str, Case], reading: Reading) -> None:
    with np.errstate(all="ignore"):
        wrong = differing({name: case for name, case in weights.items() if name.startswith("trained.0")}, reading)
    assert wrong, f"a reader with {reading.__name__} passes"
