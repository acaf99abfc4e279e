"""Is it as small as its own config plans? From headers alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_q3omni.assertions import assert_compression_ratio, assert_quantized_fraction
from pytest_q3omni.conformance._pairs import pytest_generate_tests  # noqa: F401  # parametrizes `pair`

pytestmark = pytest.mark.usefixtures("pair")

_CLOSE = 1e-3  # a few scales and norms more or less; a layer that is not packed is far outside


def test_compression_ratio(quantized_checkpoint: Path) -> None:
    """Two bytes a parameter over tensor bytes equals what the modules that the config declares packed give."""
    measured = assert_compression_ratio(quantized_checkpoint, at_least=1.0)
    assert measured.value == pytest.approx(measured.details["planned"], rel=_CLOSE)


def test_quantized_fraction(quantized_checkpoint: Path) -> None:
    """As many parameters are packed as the config declares."""
    measured = assert_quantized_fraction(quantized_checkpoint, at_least=1e-6)
    assert measured.value == pytest.approx(measured.details["planned"], rel=_CLOSE)
