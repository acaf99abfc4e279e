"""Did every conversation of the calibration pass, and did every expert see some of it?"""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_q3omni.assertions import assert_calibrated, assert_expert_coverage
from pytest_q3omni.conformance._pairs import pytest_generate_tests  # noqa: F401  # parametrizes `pair`

pytestmark = pytest.mark.usefixtures("pair")


@pytest.fixture
def calibrated(quantized_checkpoint: Path) -> Path:
    """The quantized checkpoint, where it brings its calibration record."""
    if not (quantized_checkpoint / "q3omni" / "record.json").is_file():
        pytest.skip(f"{quantized_checkpoint} has no q3omni/record.json: not calibrated, or not by `q3omni quantize`")
    return quantized_checkpoint


def test_every_sample_passed(calibrated: Path) -> None:
    """Sixty failing samples and exit code 0 are how this project began."""
    assert_calibrated(calibrated)


def test_every_expert_saw_tokens(calibrated: Path) -> None:
    """An expert without tokens has the input scale of its neighbours."""
    assert_expert_coverage(calibrated)
