from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_q3omni.errors import FormatError
from pytest_q3omni.nvfp4 import format as nvfp4

pytestmark = pytest.mark.tiny


def test_bounds_are_the_midpoints_and_ties_go_to_the_even_code() -> None:
    middles = [(low + high) / 2 for low, high in zip(nvfp4.E2M1_VALUES, nvfp4.E2M1_VALUES[1:], strict=False)]
    assert list(nvfp4.E2M1_BOUNDS) == middles
    assert list(nvfp4.E2M1_TIES_UP) == [code % 2 == 0 for code in range(1, 8)]


def test_values_follow_the_bit_layout() -> None:
    for code, value in enumerate(nvfp4.E2M1_VALUES):
        exponent, mantissa = code >> 1, code & 1
        assert value == (2.0 ** (exponent - 1) * (1 + mantissa / 2) if exponent else mantissa / 2)


def test_constants_fit_together() -> None:
    assert nvfp4.SCALE_DIVISOR == 2688
    assert nvfp4.E2M1_VALUES[-1] == nvfp4.E2M1_MAX
    assert (nvfp4.E4M3_MAX_CODE >> 3, nvfp4.E4M3_MAX_CODE & 7) == (15, 6)
    assert nvfp4.E4M3_MAX == 2.0 ** (15 - 7) * (1 + 6 / 8)
    assert nvfp4.E4M3_MIN_NORMAL == 2.0 ** (1 - 7)
    assert nvfp4.E4M3_MIN_NORMAL / 8 == nvfp4.E4M3_MIN
    assert (nvfp4.E4M3_ONE_CODE >> 3, nvfp4.E4M3_ONE_CODE & 7) == (7, 0)


@pytest.mark.parametrize(("input_scale", "expected"), [(False, 884_740), (True, 884_744)])
def test_packed_bytes_of_an_expert_matrix(input_scale: bool, expected: int) -> None:
    assert nvfp4.packed_bytes(768, 2048, input_scale=input_scale) == expected
    assert nvfp4.bits_per_parameter(768, 2048, input_scale=input_scale) == expected * 8 / (768 * 2048)


def test_four_and_a_half_bits() -> None:
    assert nvfp4.bits_per_parameter(768, 2048, input_scale=True) == pytest.approx(4.5, abs=1e-4)


@pytest.mark.parametrize(
    ("shape", "named"),
    [
        ((), "0 dimensions"),
        ((16,), "1 dimensions"),
        ((2, 3, 16), r"shape \(2, 3, 16\)"),
        ((0, 16), "empty"),
        ((4, 0), "empty"),
        ((4, 24), "in_features = 24"),
    ],
)
def test_shapes_that_nvfp4_cannot_hold(shape: tuple[int, ...], named: str) -> None:
    with pytest.raises(FormatError, match=named) as caught:
        nvfp4.check_shape(shape, where="model.embed_tokens.weight")
    assert caught.value.where == "model.embed_tokens.weight"


@pytest.mark.parametrize(
    ("block_amax", "global_scale", "expected"),
    [
        pytest.param(6.0, 1.0, 17 / 16, id="normal scale: 17/96 of the amax"),
        pytest.param(0.0, 1.0, 0.0, id="zero block"),
        pytest.param(
            6 * 2.0**-8, 1.0, 6 * 2.0**-10, id="subnormal scale, half a step too small: 6 is off by six of them"
        ),
        pytest.param(4 * 2.0**-9, 1.0, 2.0**-9, id="scale clamped up to 2**-9"),
        pytest.param(2.0**-12, 1.0, 2.0**-12, id="far below the smallest scale: all of it"),
        pytest.param(10_000.0, 1.0, 10_000.0 - 2688, id="scale clamped down to 448"),
    ],
)
def test_error_bound(block_amax: float, global_scale: float, expected: float) -> None:
    assert nvfp4.error_bound(block_amax, global_scale) == pytest.approx(expected, rel=2.0**-15)


HEAVY = {"numpy", "numba", "llvmlite", "ml_dtypes", "torch"}


@pytest.mark.parametrize("module", ["pytest_q3omni.nvfp4", "pytest_q3omni.nvfp4.format"])
def test_importing_it_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({HEAVY} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_public_names() -> None:
    import pytest_q3omni.nvfp4 as package

    assert package.__all__ == ["Packed", "pack_tensor", "unpack_tensor"]
    assert all(callable(getattr(package, name)) for name in package.__all__)
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'quantize'"):
        package.quantize  # noqa: B018
