"""NVFP4 as this machine computes it: numpy, ml_dtypes and numba together must keep what the format promises."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_q3omni.nvfp4.format import BLOCK_SIZE, E2M1_VALUES, error_bound, packed_bytes

pytestmark = pytest.mark.tiny

_FINITE = st.integers(0, 0xFFFF).filter(lambda bits: bits & 0x7FFF < 0x7F80)
_ROWS, _BLOCKS = st.integers(1, 4), st.integers(1, 3)


@st.composite
def weights(draw: st.DrawFn) -> Any:
    """A BF16 weight from arbitrary finite bit patterns: subnormals, -0.0 and huge values among them."""
    import ml_dtypes
    import numpy as np

    shape = (draw(_ROWS), draw(_BLOCKS) * BLOCK_SIZE)
    bits = draw(st.lists(_FINITE, min_size=math.prod(shape), max_size=math.prod(shape)))
    return np.array(bits, np.uint16).view(ml_dtypes.bfloat16).reshape(shape)


@settings(deadline=None, max_examples=60)
@given(weights())
def test_every_weight_comes_back_within_the_bound_of_its_block(weight: Any) -> None:
    """Derived in `nvfp4/format.py`: what rounding block scale and code may cost, and no more."""
    import numpy as np

    from pytest_q3omni.nvfp4 import pack_tensor, unpack_tensor

    packed = pack_tensor(weight)
    exact = weight.astype(np.float64).reshape(-1, BLOCK_SIZE)
    errors = np.abs(unpack_tensor(packed).reshape(-1, BLOCK_SIZE) - exact).max(axis=1)
    bounds = [error_bound(float(amax), float(packed.global_scale)) for amax in np.abs(exact).max(axis=1)]
    assert (errors <= bounds).all()


@settings(deadline=None, max_examples=60)
@given(weights())
def test_shapes_dtypes_and_bytes_are_the_formats(weight: Any) -> None:
    """Two codes a byte, a scale for sixteen, and the bytes that `plan` counts."""
    from pytest_q3omni.nvfp4 import pack_tensor

    packed = pack_tensor(weight)
    rows, columns = weight.shape
    assert (packed.codes.dtype.name, packed.codes.shape) == ("uint8", (rows, columns // 2))
    assert (packed.block_scale.dtype.name, packed.block_scale.shape) == ("float8_e4m3fn", (rows, columns // BLOCK_SIZE))
    assert packed.global_scale.dtype.name == "float32"
    stored = packed.codes.nbytes + packed.block_scale.nbytes + packed.global_scale.nbytes
    assert stored == packed_bytes(rows, columns, input_scale=False)


@settings(deadline=None, max_examples=30)
@given(weights())
def test_no_scale_is_ever_nan_zero_or_negative(weight: Any) -> None:
    """Not even of blocks, or of a whole tensor, that is zero."""
    import numpy as np

    from pytest_q3omni.nvfp4 import pack_tensor

    packed = pack_tensor(weight)
    scales = packed.block_scale.astype(np.float32)
    assert np.isfinite(scales).all()
    assert (scales > 0).all()
    assert 0 < packed.global_scale < np.inf


def test_every_value_of_the_format_survives_exactly() -> None:
    """And lies in the nibble where engines look for it."""
    import ml_dtypes
    import numpy as np

    from pytest_q3omni.nvfp4 import pack_tensor, unpack_tensor

    values = np.array([*E2M1_VALUES, *(-value for value in E2M1_VALUES)], np.float32)
    packed = pack_tensor(values.astype(ml_dtypes.bfloat16).reshape(1, BLOCK_SIZE), global_scale=1.0)
    assert np.array_equal(unpack_tensor(packed), values.reshape(1, BLOCK_SIZE))
    assert (packed.codes & 15).tolist() == [[0, 2, 4, 6, 0, 10, 12, 14]], "low nibble: even columns; -0.0 is code 0"
    assert (packed.codes >> 4).tolist() == [[1, 3, 5, 7, 9, 11, 13, 15]], "high nibble: odd columns"
