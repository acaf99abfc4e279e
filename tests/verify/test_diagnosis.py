"""A tensor that does not fit its source is told apart: what was probably done to it."""

import shutil
from pathlib import Path

import pytest
from _checkpoint_edit import EXPERT, LAYER, OTHER_LAYER, read, scaled, write
from sound_checkpoints import SoundCheckpoint, judged, load_fault

pytestmark = pytest.mark.tiny

CAUSES = {
    "nibbles_swapped": "The two nibbles of every byte are exchanged",
    "signs_lost": "No code has a sign",
    "mantissa_bit_dropped": "No code has its lowest bit",
    "block_scales_shifted": "The block scales are shifted by one block",
    "rows_rotated": "The rows are shifted by one",
    "expert_zeroed": "All codes are zero",
    "expert_global_scale_4_times_too_large": "All values are 4",
    "experts_exchanged": f"It is the weight of {LAYER}.mlp.experts.5.gate_proj",
    "gate_and_up_exchanged": f"It is the weight of {EXPERT}.up_proj",
    "layers_exchanged": f"It is the weight of {OTHER_LAYER}.self_attn.o_proj",
    "one_code_changed": "1 codes are not the nearest to the source's weight",
}


@pytest.mark.parametrize("name", CAUSES)
def test_the_cause_is_named(name: str, sound: SoundCheckpoint, tmp_path: Path) -> None:
    fault = load_fault(name).FAULT
    directory = Path(shutil.copytree(sound(fault.base), tmp_path / "checkpoint"))
    fault.break_(directory)
    first = next(finding for finding in judged(directory).findings if finding.check == "packed-weights")
    assert CAUSES[name] in first.found


def test_one_damaged_block_is_no_matter_of_scale(sound: SoundCheckpoint, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(sound("nvfp4-default"), tmp_path / "checkpoint"))
    codes = read(directory, f"{EXPERT}.down_proj.weight")
    codes[0, 0] ^= 0x88
    codes[0, 1] ^= 0x44
    write(directory, {f"{EXPERT}.down_proj.weight": codes})
    first = next(finding for finding in judged(directory).findings if finding.check == "packed-weights")
    assert "the global scale" not in first.found


def test_too_small_is_said(sound: SoundCheckpoint, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(sound("nvfp4-default"), tmp_path / "checkpoint"))
    scaled(directory, [f"{EXPERT}.down_proj.weight_scale_2"], 0.5)
    first = next(finding for finding in judged(directory).findings if finding.check == "packed-weights")
    assert "times too small: the global scale" in first.found
