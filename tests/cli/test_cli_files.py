"""Where results go: never onto the checkpoint, into pipes and devices, through links."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_q3omni.omni.durable import check_new_file, write_file
from pytest_q3omni.omni.tiny import checkpoint_path

pytestmark = pytest.mark.tiny

Q3OMNI = Path(sys.executable).with_name("q3omni")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    shutil.copytree(checkpoint_path(), tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.mark.parametrize("option", ["--out", "--report"])
@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_a_checkpoints_own_file_is_no_place_for_a_result(checkpoint: Path, option: str, name: str) -> None:
    before = (checkpoint / name).read_bytes()
    command = [Q3OMNI, "verify", checkpoint, option, checkpoint / name]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "belongs to the checkpoint" in run.stderr
    assert (checkpoint / name).read_bytes() == before


def test_a_new_file_beside_the_weights_is_fine(checkpoint: Path) -> None:
    command = [Q3OMNI, "verify", checkpoint, "--format", "json", "--out", checkpoint / "verdict.json"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 1, "BF16 is not packed"
    assert (checkpoint / "verdict.json").stat().st_size


@pytest.mark.skipif(os.name == "nt", reason="needs /dev/stdout and named pipes: not on Windows")
def test_devices_and_pipes_are_written_into(checkpoint: Path) -> None:
    command = [Q3OMNI, "verify", checkpoint, "--format", "json", "--out", "/dev/stdout"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout.startswith("{")
    assert Path("/dev/stdout").exists()


def test_a_link_is_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    check_new_file(link)
    write_file(link, b"new")
    assert link.is_symlink()
    assert target.read_text() == "new"


@pytest.mark.skipif(os.name == "nt", reason="needs a shell that closes streams: not on Windows")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_change_no_exit_code(checkpoint: Path, closed: str) -> None:
    run = subprocess.run(["bash", "-c", f'"{Q3OMNI}" verify "{checkpoint}" {closed}'], capture_output=True, check=False)
    assert run.returncode == 1
