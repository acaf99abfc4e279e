"""NVFP4 as this machine computes it: numpy, ml_dtypes and numba together must keep the format's promises, bit for bit."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_q3omni.nvfp4.format import BLOCK_SIZE, E2M1_VALUES, error_bound, packed_bytes

pytestmark = pytest.mark.tiny

_FINITE = st.integers(0, 0xFFFF).filter(lambda bits: bits & 0x7FFF < 0x7F80)
_ROWS, _BLOCKS = st.integers(1, 4), st.integers(1, 3)


@st.composite
def weights(draw: st.DrawFn) -> object:
    """A BF16 weight from arbitrary finite bit patterns: subnormals, -0.0 and huge values among them."""
    import ml_dtypes
    import numpy as np

    shape = (draw(_ROWS), draw(_BLOCKS) * BLOCK_SIZE)
    bits = draw(st.lists(_FINITE, min_size=math.prod(shape), max_size=math.prod(shape)))
    return np.array(bits, np.uint16).view(ml_dtypes.bfloat16).reshape(shape)


@settings(deadline=None, max_examples=60)
@given(weights())
def test_every_weight_comes_back_within_the_bound_of_its_block(weight):
    import numpy as np

    from pytest_q3omni.nvfp4 import pack_tensor, unpack_tensor

    packed = pack_tensor(weight)
    exact = weight.astype(np.float64).reshape(-1, BLOCK_SIZE)
    error = np.abs(unpack_tensor(packed).reshape(-1, BLOCK_SIZE) - exact).max(axis=1)
    amax = np.abs(exact).max(axis=1)
    assert all(error[block] <= error_bound(float(amax[block]), float(packed.global_scale)) for block in range(len(amax)))


@settings(deadline=None, max_examples=60)
@given(weights())
def test_shapes_dtypes_and_bytes_are_the_formats(weight):
    import ml_dtypes
    import numpy as np

    from pytest_q3omni.nvfp4 import pack_tensor

    packed = pack_tensor(weight)
    rows, columns = weight.shape
    assert (packed.codes.dtype, packed.codes.shape) == (np.uint8, (rows, columns // 2))
    assert (packed.block_scale.dtype, packed.block_scale.shape) == (ml_dtypes.float8_e4m3fn, (rows, columns // BLOCK_SIZE))
    stored = packed.codes.nbytes + packed.block_scale.nbytes + np.float32(packed.global_scale).nbytes
    assert stored == packed_bytes(rows, columns, input_scale=False)


@settings(deadline=None, max_examples=30)
@given(weights())
def test_no_scale_is_ever_nan_zero_or_negative(weight):
    import numpy as np

    from pytest_q3omni.nvfp4 import pack_tensor

    packed = pack_tensor(weight)
    scales = packed.block_scale.astype(np.float32)
    assert np.isfinite(scales).all()
    assert (scales > 0).all()
    assert 0 < packed.global_scale < np.inf


def test_every_value_of_the_format_survives_exactly():
    import ml_dtypes
    import numpy as np

    from pytest_q3omni.nvfp4 import pack_tensor, unpack_tensor

    values = np.array([*E2M1_VALUES, *(-value for value in E2M1_VALUES)], np.float32)
    weight = values.astype(ml_dtypes.bfloat16).reshape(1, BLOCK_SIZE)
    packed = pack_tensor(weight, global_scale=1.0)
    assert np.array_equal(unpack_tensor(packed), values.reshape(1, BLOCK_SIZE))
    low, high = packed.codes & 15, packed.codes >> 4
    assert low.tolist() == [[0, 2, 4, 6, 0, 10, 12, 14]], "the low nibble is the even column; -0.0 is code 0"
    assert high.tolist() == [[1, 3, 5, 7, 9, 11, 13, 15]], "the high nibble is the odd column"
