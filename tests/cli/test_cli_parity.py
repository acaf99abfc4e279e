"""`q3omni parity`: what it refuses, and how its verdict leaves it. Answers of models are tested in tests/parity."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import TINY, q3omni, refused

from pytest_q3omni.records import Parity, Verdict

pytestmark = pytest.mark.tiny


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    file = tmp_path / "samples.jsonl"
    file.write_text('{"messages": [{"role": "user", "content": "hi"}]}\n')
    return file


def test_parity_needs_conversations_of_a_model_that_brings_none(weight_only: Path, tmp_path: Path) -> None:
    """Of the built-in one, a fine-tune is another model: its headers are the same, its weights are not."""
    other = tmp_path / "other"
    shutil.copytree(TINY, other)
    with (other / "model.safetensors").open("r+b") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        file.write(b"\0\0")
    for arguments in (["other", weight_only], ["other", weight_only, "--numerics", "w4a16", "--format", "json"]):
        text = refused(q3omni("parity", *arguments, cwd=tmp_path))
        assert "other: no conversations to compare answers on" in text
        assert "--conversations FILE.jsonl" in text


def test_parity_says_which_comes_first(weight_only: Path, samples: Path, tmp_path: Path) -> None:
    for more in ([], ["--conversations", samples]):
        text = refused(q3omni("parity", weight_only, TINY, *more, cwd=tmp_path))
        assert "the original is packed; expected the BF16 original" in text
        assert "name the original first" in text


def test_parity_in_numerics_that_the_files_are_not_made_for_is_refused(weight_only: Path, tmp_path: Path) -> None:
    text = refused(q3omni("parity", TINY, weight_only, "--device", "cpu", "--numerics", "w4a4", cwd=tmp_path))
    assert "numerics w4a4; expected w4a16" in text


def test_parity_arguments_that_name_nothing_are_one_line(weight_only: Path, samples: Path, tmp_path: Path) -> None:
    for arguments in (
        ["nowhere", weight_only],
        [TINY, "nowhere", "--device", "cpu"],
        [TINY, weight_only, "--conversations", "nowhere.jsonl"],
    ):
        assert "nowhere" in refused(q3omni("parity", *arguments, cwd=tmp_path))
    assert "the device 'tpu'; expected cpu" in refused(
        q3omni("parity", TINY, weight_only, "--device", "tpu", cwd=tmp_path)
    )
    samples.write_text("hello\n")
    text = refused(q3omni("parity", TINY, weight_only, "--conversations", samples, cwd=tmp_path))
    assert f"{samples}:1: not valid JSON" in text


def test_parity_numerics_with_a_typo_are_a_usage_error(weight_only: Path, tmp_path: Path) -> None:
    done = q3omni("parity", TINY, weight_only, "--numerics", "w8a8", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "'w8a8' is not one of 'w4a16', 'w4a4'" in done.stderr


@pytest.mark.parametrize(("option", "name"), [("--report", "page.html"), ("--out", "table.txt")])
def test_a_file_that_cannot_be_written_is_refused_before_the_models_run(
    option: str, name: str, weight_only: Path, tmp_path: Path
) -> None:
    """The answers of a full-size model take hours; they must not end in "no such directory"."""
    for verb in (["parity", TINY, weight_only, "--device", "cpu"], ["verify", weight_only]):
        text = refused(q3omni(*verb, option, tmp_path / "nowhere" / name, cwd=tmp_path))
        assert "nowhere" in text
        assert "No such file or directory" in text
        (tmp_path / f"{verb[0]}{name}").mkdir()
        assert "is a directory" in refused(q3omni(*verb, option, tmp_path / f"{verb[0]}{name}", cwd=tmp_path))


def test_a_report_is_a_page_or_json(weight_only: Path, tmp_path: Path) -> None:
    text = refused(q3omni("verify", weight_only, "--report", tmp_path / "report.txt", cwd=tmp_path))
    assert "ends in .txt" in text
    assert "expected .html or .json" in text


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, list[dict[str, object]]]]:
    """Run `q3omni parity` here, on answers that come to a state; gives its exit code and what it asked for."""
    from pytest_q3omni import api, cli

    def run(state: str, *arguments: object) -> tuple[int, list[dict[str, object]]]:
        asked: list[dict[str, object]] = []

        def parity(original: Path, quantized: Path, **options: object) -> Parity:
            asked.append(options)
            return Parity(str(original), str(quantized), "cpu", {}, Verdict("agrees", state, f"{state} it is"), ())

        monkeypatch.setattr(api, "parity", parity)
        monkeypatch.setattr(sys, "argv", ["q3omni", "parity", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0), asked

    return run


@pytest.mark.parametrize(("state", "code"), [("pass", 0), ("fail", 1), ("not checked", 2)])
def test_parity_exits_with_its_verdict(answering, weight_only: Path, capsys, state: str, code: int) -> None:
    assert answering(state, TINY, weight_only)[0] == code
    printed = capsys.readouterr()
    assert printed.out.endswith(f"agrees: {state}: {state} it is\n")
    assert printed.err == ("q3omni: agrees: not checked: not checked it is\n" if code == 2 else "")


def test_parity_that_could_not_be_said_is_printed_all_the_same(answering, weight_only, tmp_path, capsys) -> None:
    file, page = tmp_path / "parity.json", tmp_path / "report.html"
    arguments = (TINY, weight_only, "--format", "json", "--out", file, "--report", page)
    assert answering("not checked", *arguments)[0] == 2
    assert json.loads(file.read_text())["verdicts"]["agrees"]["state"] == "not checked"
    assert "not checked it is" in page.read_text()
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("state", ["pass", "not checked"])
def test_parity_fails_with_the_judgement_of_the_files_that_was_asked_for(
    answering, weight_only: Path, tmp_path: Path, capsys, state: str
) -> None:
    """The answers may agree, and the files be wrong: a report that says so is no success."""
    broken = Path(shutil.copytree(weight_only, tmp_path / "broken"))
    (broken / "chat_template.json").unlink()
    for more in (["--report", tmp_path / "report.json"], ["--format", "html", "--out", tmp_path / "page.html"]):
        assert answering(state, TINY, broken, *more)[0] == 1
        said = capsys.readouterr().err
        assert "the files' verdicts fail: consistent" in said
        assert said.count("\n") == 1
    assert answering("pass", TINY, broken)[0] == 0, "nobody asked about the files"


def test_parity_without_the_extra_names_it(weight_only: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The light installation: none of the packages can be found."""
    absent = ("torch", "transformers", "scipy", "modelopt", "requests")
    code = f"import sys\nfor name in {absent!r}: sys.modules[name] = None\n"
    (tmp_path / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    text = refused(q3omni("parity", TINY, weight_only, cwd=tmp_path))
    assert "comparing answers needs torch>=" in text
    assert "Fix: pip install 'pytest-q3omni[quantize]'" in text


def test_parity_as_json_is_the_parity_and_nothing_else(answering, weight_only: Path, tmp_path: Path, capsys) -> None:
    code, (asked,) = answering("fail", TINY, weight_only, "--numerics", "w4a16", "--device", "cpu", "--format", "json")
    found = json.loads(capsys.readouterr().out)
    assert (code, found["schema"], found["verdicts"]["agrees"]["state"]) == (1, 1, "fail")
    assert (found["original"], found["quantized"]) == (TINY, str(weight_only))
    assert (asked["numerics"], asked["device"], asked["conversations"]) == ("w4a16", "cpu", None)
    file = tmp_path / "parity.json"
    assert answering("fail", TINY, weight_only, "--format", "json", "--out", file)[0] == 1
    assert (json.loads(file.read_text()), capsys.readouterr().out) == (found, "")


def test_parity_reports_the_whole_judgement(answering, weight_only: Path, tmp_path: Path, capsys) -> None:
    file = tmp_path / "report.json"
    assert answering("pass", TINY, weight_only, "--report", file)[0] == 0
    found = json.loads(file.read_text())
    states = {name: verdict["state"] for name, verdict in found["verdicts"].items()}
    assert (states["agrees"], states["faithful"], states["loads"]) == ("pass", "pass", "not checked")
    assert found["parity"]["verdicts"]["agrees"]["why"] == "pass it is"
    assert "agrees: pass" in capsys.readouterr().out
    page = tmp_path / "report.html"
    assert answering("fail", TINY, weight_only, "--format", "html", "--out", page)[0] == 1
    assert "fail it is" in page.read_text()
