"""The CI workflow runs what tox.ini lists, all of it, and may do no more than read."""

import configparser
import itertools
import re
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.tiny

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def workflow() -> dict:
    return yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def job(workflow: dict) -> dict:
    return workflow["jobs"]["tox"]


def expanded(env_list: str) -> list[str]:
    """tox's generative names: `py{311,312}-{light,tiny}` is four environments."""
    names = []
    for name in re.findall(r"[^\s,{]*(?:\{[^}]*\}[^\s,{]*)*", env_list):
        choices = [part[1:-1].split(",") if part.startswith("{") else [part] for part in re.split(r"(\{[^}]*\})", name)]
        names += ["".join(choice) for choice in itertools.product(*choices)]
    return [name for name in names if name]


def test_names_are_expanded_as_tox_does() -> None:
    assert expanded("py{311,312}-{light,tiny}, py312-tf{516,519},\n lint") == [
        "py311-light", "py311-tiny", "py312-light", "py312-tiny", "py312-tf516", "py312-tf519", "lint",
    ]  # fmt: skip


def test_it_runs_exactly_the_environments_of_tox(job: dict) -> None:
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    entries = job["strategy"]["matrix"]["include"]
    assert sorted(entry["env"] for entry in entries) == sorted(expanded(tox["tox"]["env_list"]))
    assert any("tox run -e ${{ matrix.env }} " in step.get("run", "") for step in job["steps"])


def test_every_environment_gets_the_python_of_its_name(job: dict) -> None:
    for entry in job["strategy"]["matrix"]["include"]:
        named = re.match(r"py(3)(\d+)-", entry["env"])
        assert named is None or entry["python"] == ".".join(named.groups())


def test_it_may_only_read_and_a_new_push_ends_the_old_run(workflow: dict) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert list(workflow["jobs"]) == ["tox"]
    assert "permissions" not in workflow["jobs"]["tox"]
    assert workflow["concurrency"]["cancel-in-progress"] is True


def test_actions_are_githubs_own_in_a_pinned_major_version(job: dict) -> None:
    for step in job["steps"]:
        assert ("uses" in step) != ("run" in step)
        assert "uses" not in step or re.fullmatch(r"actions/[a-z-]+@v[0-9]+", step["uses"])


def test_the_reports_that_it_uploads_are_the_ones_that_pytest_writes(job: dict) -> None:
    (run,) = (step["run"] for step in job["steps"] if "tox run" in step.get("run", ""))
    (upload,) = (step["with"] for step in job["steps"] if "upload-artifact" in step.get("uses", ""))
    written = re.findall(r"--(?:junitxml|q3omni-report)=(\S+)", run)
    assert [file.rpartition("/")[0] + "/" for file in written] == [upload["path"]] * 2
