"""What a checkpoint may ask of the judge is bounded: counted, since time tells nothing on three layers."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from _checkpoint_edit import edit_quantization, read, write
from sound_checkpoints import SoundCheckpoint, judged

from pytest_q3omni.omni.checkpoint import Checkpoint, scan
from pytest_q3omni.records import Finding
from pytest_q3omni.verify import activations as ranges
from pytest_q3omni.verify import claim
from pytest_q3omni.verify.checks import block_scales, ignore_list
from pytest_q3omni.verify.subject import Subject

pytestmark = pytest.mark.tiny


@pytest.fixture
def directory(sound: SoundCheckpoint, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound("nvfp4-default"), tmp_path / "checkpoint"))


def found(directory: Path, check: str) -> list[Finding]:
    return [finding for finding in judged(directory, ()).findings if finding.check == check]


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the texts of module names that are built."""
    sizes: list[int] = []

    class Counted(claim._Names):
        def __init__(self, modules) -> None:
            modules = list(modules)
            sizes.append(len(modules))
            super().__init__(modules)

    monkeypatch.setattr(claim, "_Names", Counted)
    return sizes


@pytest.mark.parametrize("count", [1, 500])
def test_names_are_built_once_for_all_ignore_entries(count: int, directory: Path, built: list[int]) -> None:
    edit_quantization(directory, lambda block: block["ignore"].extend(f"no.layer.{number}" for number in range(count)))
    assert {finding.severity for finding in found(directory, "ignore-list")} == {"warning"}
    assert len(built) == 2, "Linears, and everything else"


def test_idle_entries_beyond_those_told_are_not_looked_up(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    matching = claim._Names.matching
    monkeypatch.setattr(claim._Names, "matching", lambda self, entry: looked.append(entry) or matching(self, entry))
    edit_quantization(directory, lambda block: block["ignore"].extend(f"no.layer.{number}" for number in range(500)))
    found(directory, "ignore-list")
    idle = [entry for entry in looked if entry.startswith("no.layer.")]
    assert len(idle) == 2 * 500 + ignore_list._TOLD, "the claim, the check, and the names beside the Linears"


def test_an_entry_that_is_repeated_is_told_once(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["ignore"].extend(["no.layer"] * 300))
    assert len(found(directory, "ignore-list")) == 1


@pytest.mark.parametrize("limit", [0, 3])
def test_codes_under_zero_scales_are_read_until_enough_is_wrong(
    limit: int, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scales = [name for name in scan(directory).entries if name.endswith(".weight_scale")]
    write(directory, {name: np.zeros_like(read(directory, name)) for name in scales})
    looked: list[str] = []
    weights = block_scales._weights
    monkeypatch.setattr(block_scales, "_READ_BACK", limit)
    monkeypatch.setattr(
        block_scales,
        "_weights",
        lambda subject, packed, piece: looked.append(packed) or weights(subject, packed, piece),
    )
    faults = list(block_scales.CHECK.run(Subject(scan(directory))))
    assert len(looked) == limit
    assert {fault.where for fault in faults} == set(scales)
    assert sum("zero over non-zero codes" in fault.found for fault in faults) == limit
    assert sum("codes not read" in fault.found for fault in faults) == len(scales) - limit


def test_row_lengths_are_remembered_by_names(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []
    lengths = ranges.Activations._row_lengths
    monkeypatch.setattr(ranges.Activations, "_row_lengths", lambda self, *key: asked.append(key) or lengths(self, *key))
    subject = Subject(scan(directory))
    activations = ranges.Activations(subject)
    for _ in range(2):
        assert all(activations.range_of(packed) for packed in subject.packed.values())
    assert len(asked) == len(set(asked)) == 2 * (1 + 2 * 8), "v_proj, gate and up of 8 experts, in two layers"
    assert all(isinstance(part, str) and len(part) < 100 for key in asked for part in key)


def test_reading_scales_reads_no_codes(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    read_tensor = Checkpoint.read
    monkeypatch.setattr(
        Checkpoint, "read", lambda self, name, *a, **k: reads.append(name) or read_tensor(self, name, *a, **k)
    )
    list(block_scales.CHECK.run(Subject(scan(directory))))
    assert reads == []
