"""Largest block scales of fused groups: what counts depends on how far, and how many, they are below 0x7e."""

from pathlib import Path

import foreign_checkpoints as foreign
import pytest
from _checkpoint_edit import read, write

from pytest_q3omni.omni.checkpoint import scan
from pytest_q3omni.records import Finding
from pytest_q3omni.verify.judge import judge

pytestmark = pytest.mark.tiny


def down_scales(directory: Path) -> list[str]:
    return sorted(name for name in scan(directory).entries if name.endswith("down_proj.weight_scale"))


def lowered(directory: Path, names: list[str], steps: int) -> list[Finding]:
    """The findings after every block scale of these tensors was made `steps` E4M3 codes smaller."""
    scales = {name: read(directory, name) for name in names}
    write(directory, {name: (codes.view("u1") - steps).view(codes.dtype) for name, codes in scales.items()})
    return [finding for finding in judge(directory).findings if finding.check == "code-patterns"]


def test_one_of_very_many_is_an_error(tmp_path: Path) -> None:
    directory = foreign.packed_text_model(tmp_path / "model", num_experts=256, num_hidden_layers=1)
    name = down_scales(directory)[5]
    assert [(finding.where, finding.severity) for finding in lowered(directory, [name], 1)] == [(name, "error")]


@pytest.mark.parametrize(("count", "steps", "expected"), [(1, 5, "warning"), (1, 6, "error"), (2, 6, "error")])
def test_farther_than_a_writer_shrinks_is_an_error(count: int, steps: int, expected: str, tmp_path: Path) -> None:
    directory = foreign.packed_text_model(tmp_path / "model", num_experts=16)
    names = down_scales(directory)[:count]
    found = [(finding.where, finding.severity) for finding in lowered(directory, names, steps)]
    assert found == [(name, expected) for name in names]


def test_a_writer_that_shrinks_some_scales_is_left_alone(tmp_path: Path) -> None:
    directory = foreign.packed_text_model(tmp_path / "model", num_experts=16)
    assert not lowered(directory, down_scales(directory)[:3], 1)


def test_a_writer_with_another_largest_scale_is_left_alone(tmp_path: Path) -> None:
    directory = foreign.packed_text_model(tmp_path / "model", num_experts=16)
    assert not lowered(directory, down_scales(directory), 8)
