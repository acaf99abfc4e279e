"""Fixtures of the judge's tests."""

from pathlib import Path

import pytest
from sound_checkpoints import Copy, Sound


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """Name of a base -> its directory, made on first use. Not to be written to."""
    return Sound(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def copy(sound: Sound, tmp_path: Path) -> Copy:
    """Name of a base -> a copy of it, to be changed."""
    return lambda base="nvfp4-default": sound.copy(base, tmp_path / base)
