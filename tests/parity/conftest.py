"""One reference for all comparisons: measuring it takes most of their time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, packed by `nvfp4-default`."""
    from parity_runs import make

    return make("nvfp4-default", tmp_path_factory.mktemp("parity") / "sound")


@pytest.fixture(scope="session")
def reference(sound: Path) -> Iterator[object]:
    """The original, twice, and plain NVFP4 of the layers that `sound` packs."""
    import torch
    from parity_runs import reference_of

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # two on busy cores are several times slower
    yield reference_of(sound)
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def sound_parity(reference: object, sound: Path) -> object:
    """The sound checkpoint beside its original."""
    from parity_runs import against

    return against(reference, sound)
