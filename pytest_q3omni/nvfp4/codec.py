"""Pack BF16 weights into NVFP4 and back, on numpy arrays."""

from __future__ import annotations

from typing import NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt

from pytest_q3omni.errors import FormatError
from pytest_q3omni.nvfp4 import format as nvfp4
from pytest_q3omni.nvfp4.kernels.threads import over_ranges
