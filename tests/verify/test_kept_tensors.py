"""Unpacked tensors are compared to their last byte, also those that are read in parts."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from _checkpoint_edit import read, write
from sound_checkpoints import SoundCheckpoint, judged

from pytest_q3omni.records import Finding
from pytest_q3omni.verify.checks import kept_tensors

pytestmark = pytest.mark.tiny

NAME = "thinker.lm_head.weight"
LIMIT = 4096


@pytest.fixture
def directory(sound: SoundCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(kept_tensors, "LIMIT", LIMIT)
    return Path(shutil.copytree(sound("nvfp4-default"), tmp_path / "checkpoint"))


def error_with(directory: Path, *changed: int) -> Finding:
    """The one error after the values at these places of the flat tensor were changed."""
    weight = read(directory, NAME)
    assert weight.nbytes > 3 * LIMIT
    bits = weight.view(np.uint16).reshape(-1)
    bits[list(changed)] ^= 1
    write(directory, {NAME: weight})
    (error,) = [finding for finding in judged(directory, ("source",)).findings if finding.severity == "error"]
    assert (error.check, error.where) == ("kept-tensors", NAME)
    return error


def test_a_difference_in_the_last_value(directory: Path) -> None:
    rows, width = read(directory, NAME).shape
    error = error_with(directory, -1)
    assert error.found == f"1 of {rows * width:,} values differ from the source, first at [{rows - 1}, {width - 1}]"


def test_differences_in_several_parts(directory: Path) -> None:
    width = read(directory, NAME).shape[1]
    second = LIMIT // 2 + 3
    error = error_with(directory, second, second + 1, LIMIT + 7)
    assert error.found.startswith("3 of ")
    assert error.found.endswith(f"first at [{second // width}, {second % width}]")


def test_parts_of_no_whole_number_of_words(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight bytes are compared at a time: the last two of a part are a word of their own."""
    monkeypatch.setattr(kept_tensors, "LIMIT", LIMIT + 2)
    width = read(directory, NAME).shape[1]
    last = LIMIT // 2
    assert error_with(directory, last).found.endswith(f"first at [{last // width}, {last % width}]")
