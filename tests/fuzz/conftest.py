"""Fixtures of the fuzz tests: sound checkpoints to damage, as the judge's own tests make them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "verify"))

from sound_checkpoints import Sound  # found through the path above


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """Name of a base -> its directory, made on first use. Not to be written to."""
    return Sound(tmp_path_factory.mktemp("sound"))
