"""`q3omni doctor` on this machine, whatever it has: rows, exit codes, one line where it cannot."""

import json
from pathlib import Path

import pytest
from command_line import FULL_SIZE, TINY, q3omni, refused

pytestmark = pytest.mark.tiny


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    monkeypatch.delenv("Q3OMNI_ENGINE_PYTHON", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


def test_the_rows_are_those_of_the_way_to_a_served_checkpoint(tmp_path: Path) -> None:
    done = q3omni("doctor", TINY, "--format", "json", cwd=tmp_path)
    told = json.loads(done.stdout)
    states = {row["name"]: row["state"] for row in told["rows"]}
    assert told["schema"] == 1
    assert {"driver", "torch", "vllm", "kernels", "expert tuning", "memory", "gpu tests", "thor tests"} <= states.keys()
    assert set(states.values()) <= {"pass", "fail", "not checked"}
    assert done.returncode == ("fail" in states.values())
    assert told["facts"]["experts"]["experts"] == 8
    assert done.stderr == ""


def test_the_cache_follows_the_request(tmp_path: Path) -> None:
    done = q3omni("doctor", FULL_SIZE, "--at-once", 2, "--context", 1000, "--format", "json", cwd=tmp_path)
    assert json.loads(done.stdout)["facts"]["needs"]["cache_bytes"] == 2 * 1000 * 2 * 48 * 4 * 128 * 2


def test_a_packed_checkpoint_is_measured_by_its_own_bytes(tmp_path: Path, weight_only: Path) -> None:
    done = q3omni("doctor", weight_only, "--format", "json", cwd=tmp_path)
    facts = json.loads(done.stdout)["facts"]
    assert facts["numerics"] == "w4a16"
    plain = json.loads(q3omni("doctor", TINY, "--recipe", "bf16", "--format", "json", cwd=tmp_path).stdout)["facts"]
    assert 0 < facts["needs"]["weights"] < plain["needs"]["weights"]


def test_an_interpreter_without_vllm_fails_where_it_was_named(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 3\n")
    python.chmod(0o755)
    done = q3omni("doctor", TINY, "--engine-python", python, "--format", "json", cwd=tmp_path)
    assert done.returncode == 1
    (row,) = (row for row in json.loads(done.stdout)["rows"] if row["name"] == "vllm")
    assert row["state"] == "fail"
    assert row["meaning"] == f"--engine-python {python} has no vLLM"


def test_the_table_has_every_row_and_no_traceback(tmp_path: Path) -> None:
    done = q3omni("doctor", TINY, cwd=tmp_path)
    assert done.returncode in (0, 1)
    for name in ("driver", "torch", "vllm", "kernels", "memory", "thor tests"):
        assert f"│ {name} " in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "nowhere"),
        ([TINY, "--recipe", "nvfp5"], "nvfp5"),
        ([TINY, "--engine-python", "nowhere"], "no such file"),
        ([TINY, "--at-once", "0"], "correct --at-once or --context"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path: Path, arguments: list[str], says: str) -> None:
    assert says in refused(q3omni("doctor", *arguments, cwd=tmp_path))
