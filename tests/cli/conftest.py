"""Shared by the tests of the command line."""

from pathlib import Path

import pytest
from command_line import TINY, q3omni


@pytest.fixture(scope="session")
def weight_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model packed weight-only, through the command line."""
    home = tmp_path_factory.mktemp("weight-only")
    done = q3omni("quantize", TINY, home / "out", "--recipe", "nvfp4-mlp-weight-only", cwd=home)
    assert done.returncode == 0, done
    return home / "out"
