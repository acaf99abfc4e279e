"""Many small tensors in few reads, and large ones in pieces."""

from pathlib import Path

import numpy as np
import pytest
from _checkpoint_edit import write_file

from pytest_q3omni.errors import Unreadable
from pytest_q3omni.omni.checkpoint import Checkpoint
from pytest_q3omni.omni.safetensors_file import read_header
from pytest_q3omni.verify import reading
from pytest_q3omni.verify.reading import pieces, scalars

pytestmark = pytest.mark.tiny


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    random = np.random.default_rng(3)
    tensors = {f"t{number}": random.integers(0, 256, (number, 7), dtype=np.uint8) for number in range(30)}
    values = {f"s{number}": np.array(number / 3, np.float32) for number in range(5)}
    write_file(tmp_path / "a.safetensors", tensors)
    write_file(tmp_path / "b.safetensors", {**values, "wide": np.zeros(2, np.float32)})
    entries = read_header(tmp_path / "a.safetensors") | read_header(tmp_path / "b.safetensors")
    return Checkpoint(tmp_path, {}, entries, None, ())


@pytest.mark.parametrize("limit", [1, 10, 100, 10_000])
@pytest.mark.parametrize("gap", [0, 50, 4096])
def test_pieces_are_the_tensors(checkpoint: Checkpoint, limit: int, gap: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LIMIT", limit)
    monkeypatch.setattr(reading, "_GAP", gap)
    names = [f"t{number}" for number in range(29, -1, -3)]
    found = {name: np.zeros(0, np.uint8) for name in names}
    for piece in pieces(checkpoint, names):
        assert piece.start == len(found[piece.name])
        assert 0 < len(piece.data) <= limit
        found[piece.name] = np.concatenate([found[piece.name], piece.data])
    assert all((found[name] == checkpoint.array(name).reshape(-1)).all() for name in names)


def test_scalars_are_exact_and_others_are_left_out(checkpoint: Checkpoint) -> None:
    found = scalars(checkpoint, ["s1", "s4", "wide", "t3", "missing"])
    assert found == {"s1": float(np.float32(1 / 3)), "s4": float(np.float32(4 / 3))}


def test_a_file_that_got_shorter(checkpoint: Checkpoint) -> None:
    file = checkpoint.path / "a.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(Unreadable, match="ends too early"):
        list(pieces(checkpoint, [f"t{number}" for number in range(30)]))
