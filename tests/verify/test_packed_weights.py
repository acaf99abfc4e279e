"""Packed weights beside their source: read once, in several threads, and told as if one after the other."""

import shutil
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from _checkpoint_edit import ATTENTION, EXPERT, LAYER, bfloat16, original, read, write
from sound_checkpoints import SoundCheckpoint, judged

from pytest_q3omni.errors import FormatError
from pytest_q3omni.nvfp4.reference import reference_pack
from pytest_q3omni.omni.checkpoint import Checkpoint, open_checkpoint, scan
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.pack.write import write_checkpoint
from pytest_q3omni.plan.build import build_plan
from pytest_q3omni.records import Finding
from pytest_q3omni.verify import comparison
from pytest_q3omni.verify.checks.packed_weights import CHECK
from pytest_q3omni.verify.judge import judge
from pytest_q3omni.verify.subject import Subject

pytestmark = pytest.mark.tiny

WEIGHT = f"{EXPERT}.down_proj.weight"


@pytest.fixture
def directory(sound: SoundCheckpoint, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound("nvfp4-default"), tmp_path / "checkpoint"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint_path(), tmp_path / "source"))


def compared(directory: Path, source: Path | None = None) -> tuple[list[Finding], Subject]:
    subject = Subject(scan(directory), source=open_checkpoint(source or checkpoint_path()))
    return list(CHECK.run(subject)), subject


@pytest.mark.parametrize("piece", [1, 3000, 1 << 20])
def test_pieces_do_not_change_what_is_found(piece: int, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = read(directory, WEIGHT)
    codes[-1, -1] ^= 0x77
    codes[3, 5] ^= 0x44
    write(directory, {WEIGHT: codes})
    expected, whole = compared(directory)
    monkeypatch.setattr(comparison, "_PIECE", piece)
    found, subject = compared(directory)
    assert [finding.where for finding in found] == [WEIGHT]
    assert found == expected
    assert subject.notes == whole.notes
    assert subject.tensor_errors.keys() == whole.tensor_errors.keys() == {p.codes for p in subject.packed.values()}
    for name, errors in subject.tensor_errors.items():
        assert errors == pytest.approx(whole.tensor_errors[name], rel=1e-6)


def test_every_byte_is_read_once(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a sound checkpoint: the amax of a group costs no pass of its own."""
    counts: Counter[tuple[Path, str]] = Counter()
    lock, read_tensor = threading.Lock(), Checkpoint.read

    def counted(self, name, *arguments, **places):
        data = read_tensor(self, name, *arguments, **places)
        with lock:
            counts[self.path, name] += len(data)
        return data

    monkeypatch.setattr(Checkpoint, "read", counted)
    _, subject = compared(directory)
    for packed in subject.packed.values():
        for checkpoint, name in (
            (subject.source, f"{packed.module}.weight"),
            (subject.checkpoint, packed.codes),
            (subject.checkpoint, packed.block_scale),
        ):
            entry = checkpoint.entries[name]
            assert counts[checkpoint.path, name] == entry.end - entry.begin


def test_a_source_that_is_not_finite_is_named(directory: Path, source: Path) -> None:
    """In the second member of a group, beside a sound first one; no other tensor suffers."""
    name = f"{LAYER}.self_attn.k_proj.weight"
    weight = original(name).copy()
    weight[2, 7] = weight[5, 0] = np.nan
    write(source, {name: weight})
    found, subject = compared(directory, source)
    assert [(finding.where, finding.severity) for finding in found] == [(name.removesuffix(".weight"), "error")]
    assert found[0].found == "the source is damaged: nan at (2, 7), the first of 2 such values"
    assert len(subject.tensor_errors) == len(subject.packed) - 3


def test_a_scale_that_its_inverse_does_not_give_back(source: Path, tmp_path: Path) -> None:
    """compressed-tensors stores 1 / scale in float32. What was packed with the scale differs in a tie from what 1 over
    the stored number gives; it is exact all the same."""
    weight = np.zeros_like(original(WEIGHT))
    weight[0, 0], weight[1, 16] = 1.234375, 0.00011301040649414062
    scale = np.float32(1.234375) / np.float32(2688)
    given_back = np.float32(1 / float(np.float32(1) / scale))
    packed = [reference_pack(bfloat16(weight), each)[1].tobytes() for each in (scale, given_back)]
    assert packed[0] != packed[1], "no example any more"
    write(source, {WEIGHT: bfloat16(weight)})
    plan = build_plan(source, "nvfp4-mlp-weight-only", layout_name="compressed-tensors")
    write_checkpoint(open_checkpoint(source), plan, tmp_path / "packed")
    faithful = judge(tmp_path / "packed", source=source).verdict("faithful")
    assert faithful.state == "pass"
    assert "all 48 packed tensors are exactly what packing the source gives" in faithful.why


class TestInOrder:
    def test_results_come_in_order(self) -> None:
        assert list(comparison.in_order(lambda item: item * item, iter(range(100)))) == [n * n for n in range(100)]

    def test_no_more_than_a_few_are_ahead(self) -> None:
        taken: list[int] = []
        results = comparison.in_order(lambda item: item, (taken.append(n) or n for n in range(10_000)))
        next(results)
        assert len(taken) <= 4 * comparison._MOST_WORKERS + 1
        results.close()
        assert len(taken) <= 4 * comparison._MOST_WORKERS + 1

    def test_an_error_is_raised_in_its_turn(self) -> None:
        def run(item: int) -> int:
            if item == 3:
                raise FormatError("three")
            return item

        results = comparison.in_order(run, range(50))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(FormatError, match="three"):
            next(results)

    def test_threads_have_buffers_of_their_own(self) -> None:
        buffers, both = comparison.Buffers(), threading.Barrier(2)

        def fill(item: int) -> bool:
            mine = buffers.get("any", 1000)
            mine[:] = item
            both.wait(timeout=60)
            return bool((mine == item).all())

        with ThreadPoolExecutor(2) as pool:
            assert all(pool.map(fill, (1, 2)))


def test_a_damaged_member_leaves_the_others_of_its_group_exact(sound: SoundCheckpoint, tmp_path: Path) -> None:
    """Their global scale comes from the damaged one's source, too."""
    directory = tmp_path / "checkpoint"
    shutil.copytree(sound("nvfp4-default"), directory)
    for projection in "qkv":
        copy = tmp_path / projection
        shutil.copytree(directory, copy)
        name = f"{ATTENTION}.{projection}_proj.weight_scale"
        scales = read(copy, name)
        scales[0, 0] = np.nan
        write(copy, {name: scales})
        found = [finding for finding in judged(copy).findings if finding.check != "expert-coverage"]
        assert [(finding.check, finding.where) for finding in found] == [("block-scales", name)]
