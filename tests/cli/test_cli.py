"""The command line as a user meets it: in a process of its own, outside the clone. Codes, streams, sentences."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import FULL_SIZE, TINY, q3omni, refused

from pytest_q3omni.omni.tiny import record_path

pytestmark = pytest.mark.tiny


def test_the_package_comes_from_site_packages(tmp_path: Path) -> None:
    """The wheel is tested, not the clone. (Editable installations of developers are told apart and skipped.)"""
    code = (
        "import pytest_q3omni; from importlib.metadata import distribution; print(pytest_q3omni.__file__);"
        "print(distribution('pytest-q3omni').read_text('direct_url.json'))"
    )
    place, url = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    if '"editable": true' in url:
        pytest.skip("this is an editable installation; `make test` installs the wheel")
    assert "site-packages" in Path(place).parts


def test_plan_as_json_is_the_contract(tmp_path: Path) -> None:
    done = q3omni("plan", FULL_SIZE, "--format", "json", cwd=tmp_path)
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert answer["schema"] == 1
    assert answer["parameters"] == 35_259_818_545
    plans = {plan["recipe"]: plan for plan in answer["plans"]}
    assert plans["nvfp4-default"]["tensor_bytes"] == 27_542_850_146
    keys = {"recipe", "tensor_bytes", "file_bytes", "bits_per_parameter", "compression_ratio", "quantized_fraction"}
    assert keys <= set(plans["bf16"])
    stages = plans["nvfp4-default"]["stages"]
    assert list(stages) == ["thinker", "talker", "code_predictor", "code2wav"]
    assert sum(stage["tensor_bytes"] for stage in stages.values()) == plans["nvfp4-default"]["tensor_bytes"]
    assert sum(stage["parameters"] for stage in stages.values()) == answer["parameters"]


def test_plan_as_text_shows_the_bytes_and_explains_the_share(tmp_path: Path) -> None:
    done = q3omni("plan", FULL_SIZE, "--recipe", "nvfp4-mlp-weight-only", "--recipe", "bf16", cwd=tmp_path)
    assert done.returncode == 0
    for text in ("28,845,106,274", "82.22%", "92.42%", "70,519,637,090", "code_predictor"):
        assert text in done.stdout
    assert "nvfp4-default" not in done.stdout


def test_quantize_then_verify(weight_only: Path, tmp_path: Path) -> None:
    done = q3omni("verify", weight_only, "--source", TINY, "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done
    answer = json.loads(done.stdout)
    assert answer["schema"] == 1
    states = {name: verdict["state"] for name, verdict in answer["verdicts"].items()}
    assert states["packed"] == states["consistent"] == states["faithful"] == "pass"
    assert all(verdict["why"] for verdict in answer["verdicts"].values())
    assert answer["findings"] == []
    assert {
        "parameters",
        "tensor_bytes",
        "bits_per_parameter",
        "compression_ratio",
        "quantized_fraction",
        "stages",
    } <= set(answer["facts"])


def test_a_broken_checkpoint_is_exit_1_and_says_where(weight_only: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(weight_only, broken)
    file = broken / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    done = q3omni("verify", broken, cwd=tmp_path)
    assert done.returncode == 1
    assert "model.safetensors" in done.stdout
    assert "fail" in done.stdout


def test_a_bf16_checkpoint_fails_packed(tmp_path: Path) -> None:
    done = q3omni("verify", TINY, "--format", "json", cwd=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["verdicts"]["packed"]["state"] == "fail"


def test_a_required_verdict_that_was_not_checked_is_exit_2(weight_only: Path, tmp_path: Path) -> None:
    assert q3omni("verify", weight_only, cwd=tmp_path).returncode == 0
    done = q3omni("verify", weight_only, "--require", "faithful", cwd=tmp_path)
    assert done.returncode == 2
    assert "required, but not checked: faithful: " in done.stderr


def test_a_report_is_written(weight_only: Path, tmp_path: Path) -> None:
    done = q3omni("verify", weight_only, "--format", "html", "--out", "report.html", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "http" not in page.replace("http-equiv", ""), "the report works offline"


def test_weight_only_says_that_conversations_were_not_needed(tmp_path: Path) -> None:
    (tmp_path / "samples.jsonl").write_text('{"messages": [{"role": "user", "content": "hi"}]}\n')
    done = q3omni(
        "quantize", TINY, "out", "--recipe", "nvfp4-mlp-weight-only", "--conversations", "samples.jsonl", cwd=tmp_path
    )
    assert done.returncode == 0
    assert "the conversations were not needed" in done.stdout


@pytest.mark.parametrize("verb", ["plan", "calibrate", "quantize", "verify", "parity", "demo"])
def test_help_shows_an_example(verb: str, tmp_path: Path) -> None:
    done = q3omni(verb, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert f"Example: q3omni {verb}" in done.stdout


def test_a_missing_source_is_one_line(tmp_path: Path) -> None:
    for verb in (["plan", "nowhere"], ["verify", "nowhere"], ["quantize", "nowhere", "out", "--recipe", "bf16"]):
        assert "nowhere" in refused(q3omni(*verb, cwd=tmp_path))


def test_a_recipe_with_a_typo_gets_the_nearest(tmp_path: Path) -> None:
    text = refused(q3omni("quantize", TINY, "out", "--recipe", "nvfp4-defualt", cwd=tmp_path))
    assert "did you mean 'nvfp4-default'?" in text


def test_out_that_is_src_or_inside_it_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(TINY, source)
    before = {file.name: file.read_bytes() for file in source.iterdir()}
    for out in (source, tmp_path / "source" / ".." / "source", source / "out", tmp_path):
        text = refused(q3omni("quantize", source, out, "--recipe", "nvfp4-mlp-weight-only", cwd=tmp_path))
        assert "OUT is SRC" in text or "lie in each other" in text
    assert {file.name: file.read_bytes() for file in source.iterdir()} == before


def test_out_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious.txt").write_text("mine")
    assert "already holds something" in refused(q3omni("quantize", TINY, out, "--recipe", "bf16", cwd=tmp_path))
    assert [file.name for file in out.iterdir()] == ["precious.txt"]


def test_a_quantized_source_is_refused(weight_only: Path, tmp_path: Path) -> None:
    text = refused(q3omni("quantize", weight_only, "again", "--recipe", "nvfp4-mlp-weight-only", cwd=tmp_path))
    assert "already quantized" in text
    assert list(tmp_path.iterdir()) == []


def test_w4a4_without_data_is_refused(tmp_path: Path) -> None:
    text = refused(q3omni("quantize", TINY, "out", "--recipe", "nvfp4-default", cwd=tmp_path))
    assert "--conversations" in text
    assert "--record" in text


def test_a_record_makes_w4a4_without_torch(tmp_path: Path) -> None:
    done = q3omni(
        "quantize",
        TINY,
        "out",
        "--recipe",
        "nvfp4-default",
        "--record",
        record_path(),
        "--format",
        "json",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done
    states = {name: verdict["state"] for name, verdict in json.loads(done.stdout)["verdicts"].items()}
    assert [states[name] for name in ("packed", "consistent", "faithful", "calibrated")] == ["pass"] * 4


def test_a_record_of_another_model_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "other"
    shutil.copytree(TINY, source)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "note": "another"}))
    text = refused(
        q3omni("quantize", source, "out", "--recipe", "nvfp4-default", "--record", record_path(), cwd=tmp_path)
    )
    assert "made from another checkpoint" in text


def test_an_unknown_option_and_no_verb_are_usage_errors(tmp_path: Path) -> None:
    assert q3omni("plan", FULL_SIZE, "--recipes", "x", cwd=tmp_path).returncode == 2
    assert q3omni("verify", TINY, "--format", "xml", cwd=tmp_path).returncode == 2
    assert "Usage" in q3omni(cwd=tmp_path).stdout + q3omni(cwd=tmp_path).stderr


def test_an_unexpected_error_is_a_sentence_and_the_traceback_is_there_for_those_who_ask(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pytest_q3omni import api, cli

    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(api, "plan", broken)
    monkeypatch.setattr(sys, "argv", ["q3omni", "plan", FULL_SIZE])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "internal error: ZeroDivisionError: planted" in capsys.readouterr().err
    monkeypatch.setenv("Q3OMNI_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_a_reader_that_leaves_early_is_no_failure(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("q3omni")
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; '{script}' plan '{FULL_SIZE}' --format json | head -c 1"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, "pipefail: the code is that of the answer, not of the pipe"
    assert done.stderr == ""


def test_a_verdict_survives_a_reader_that_leaves_early(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("q3omni")
    command = f"set -o pipefail; '{script}' verify '{TINY}' --format json | head -c 1 > /dev/null"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_full_standard_output_is_a_sentence(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("q3omni")
    command = f"'{script}' plan '{FULL_SIZE}' --format json > /dev/full"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_and_plan_load_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['q3omni', 'plan', sys.argv[1], '--recipe', 'bf16', '--format', 'json'];"
        "from pytest_q3omni.cli import main\n"
        "try:\n    main()\nfinally:\n"
        "    heavy = ('torch', 'transformers', 'numba', 'numpy', 'modelopt')\n"
        "    print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, FULL_SIZE], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == "[]", done.stderr
