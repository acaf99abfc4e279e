"""What a test can say about a checkpoint. Plain functions on paths, model handles or text, usable outside pytest, too.

Each returns the Measurement it judged, and raises one AssertionError that lists every finding: module, number, bound,
remedy.
"""

from pytest_q3omni.assertions.answers import assert_chatml, assert_output_parity
from pytest_q3omni.assertions.calibration import assert_calibrated, assert_expert_coverage
from pytest_q3omni.assertions.loading import assert_loads_in_vllm
from pytest_q3omni.assertions.sizes import assert_compression_ratio, assert_quantized_fraction
from pytest_q3omni.assertions.speed import assert_memory_ratio, assert_speedup
from pytest_q3omni.assertions.verified import assert_verified

__all__ = [
    "assert_calibrated",
    "assert_chatml",
    "assert_compression_ratio",
    "assert_expert_coverage",
    "assert_loads_in_vllm",
    "assert_memory_ratio",
    "assert_output_parity",
    "assert_quantized_fraction",
    "assert_speedup",
    "assert_verified",
]
