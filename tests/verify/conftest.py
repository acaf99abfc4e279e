"""Fixtures of the judge's tests."""

from pathlib import Path

import pytest
from sound_checkpoints import SoundCheckpoint, make


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> SoundCheckpoint:
    """Name of a base -> its directory, packed on first use. Not to be written to."""
    home = tmp_path_factory.mktemp("sound")

    def find(base: str) -> Path:
        place = home / base
        return place if place.exists() else make(base, place)

    return find
