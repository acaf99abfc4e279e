"""The suite that ships, run as a stranger runs it: from an empty folder, on the tiny pair or on their own."""

import json
import os
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from importlib.util import find_spec
from pathlib import Path

import pytest

from pytest_q3omni import api, conformance
from pytest_q3omni.conformance import _judged
from pytest_q3omni.omni.tiny import checkpoint_path, record_path
from pytest_q3omni.registry import names
from pytest_q3omni.verify.checks import checks

pytestmark = pytest.mark.tiny

CHECKS = names("pytest_q3omni.verify.checks")
SUITE = ["-p", "no:cacheprovider", "--pyargs", "pytest_q3omni.conformance"]
FULL = all(find_spec(name) is not None for name in ("torch", "transformers", "PIL", "soundfile"))


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    """A user's pair: copies of the tiny one under other names."""
    home = tmp_path_factory.mktemp("models")
    shutil.copytree(checkpoint_path(), home / "original")
    api.quantize(home / "original", home / "quantized", recipe="nvfp4-default", record=record_path())
    return home


@pytest.fixture
def cache(tmp_path_factory):
    return f"--q3omni-cache={tmp_path_factory.getbasetemp() / 'conformance-cache'}"


@pytest.fixture
def light(pytester, monkeypatch):
    """The light installation: torch and transformers cannot be found."""
    absent = ("torch", "transformers", "modelopt", "PIL", "soundfile", "soxr")
    code = f"import sys\nfor name in {absent!r}: sys.modules[name] = None\n"
    folder = pytester.mkdir("site")
    folder.joinpath("sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess(*SUITE, "-rs", *arguments)


def items(pytester: pytest.Pytester) -> set[str]:
    return {case.attrib["name"] for case in ElementTree.parse(pytester.path / "junit.xml").iter("testcase")}


@pytest.mark.skipif(not FULL, reason="needs the quantize extra: pip install pytest-q3omni[quantize]")
def test_in_an_empty_folder_everything_passes(pytester, cache):
    result = run(pytester, "-m", "tiny", "--junitxml=junit.xml", cache)
    outcomes = result.parseoutcomes()
    assert result.ret == 0
    assert (outcomes.get("failed"), outcomes.get("errors")) == (None, None)
    skipped = [line for line in result.outlines if line.startswith("SKIPPED")]
    reasons = ("a benchmark: runs with", "(--q3omni-engine)", "needs an engine: no vLLM")
    assert all(any(reason in line for reason in reasons) for line in skipped)
    engine = 1 + sum(check.needs in ("engine", "answers") for check in checks())
    assert any(line.startswith(f"SKIPPED [{engine}]") for line in skipped), "the verdict `loads`, and its checks"
    assert items(pytester) >= {f"test_check[tiny-{check}]" for check in CHECKS}
    assert items(pytester) >= {
        f"test_verdict[tiny-{name}]" for name in ("packed", "consistent", "faithful", "calibrated", "loads")
    }


@pytest.mark.usefixtures("light")
def test_without_torch_the_files_are_judged_and_the_rest_says_why(pytester, cache):
    result = run(pytester, "-m", "tiny", "--junitxml=junit.xml", cache)
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] >= len(CHECKS) + 10
    result.stdout.fnmatch_lines(["SKIPPED *: needs torch and transformers: pip install 'pytest-q3omni[[]quantize]'"])


def test_with_workers_it_is_the_same(pytester, cache):
    result = run(pytester, "-m", "tiny", "-n", "2", "-k", "checkpoint or sizes or calibration", cache)
    assert result.ret == 0
    assert "failed" not in result.parseoutcomes()


def test_your_pair_is_asked_beside_the_tiny_one(pytester, cache, pair):
    options = [f"--q3omni-original={pair / 'original'}", f"--q3omni-quantized={pair / 'quantized'}"]
    result = run(pytester, "-k", "yours", "--junitxml=junit.xml", cache, *options)
    assert result.ret == 0
    assert result.parseoutcomes().keys() == {"passed", "skipped", "warnings", "deselected"}
    result.stdout.fnmatch_lines(["SKIPPED [[]*[]] *: not checked: needs an engine's loader, * (--q3omni-engine)"])
    assert "SKIPPED" not in result.stdout.str().replace("(--q3omni-engine)", "").partition("SKIPPED")[2]
    assert {"test_verdict[yours-faithful]", "test_compression_ratio[yours]"} <= items(pytester)
    only_tiny = run(pytester, "-m", "tiny", "--junitxml=junit.xml", "-k", "sizes", cache, *options)
    assert only_tiny.ret == 0
    assert items(pytester) == {"test_compression_ratio[tiny]", "test_quantized_fraction[tiny]"}


def test_without_your_original_what_needs_it_is_not_checked(pytester, cache, pair):
    result = run(pytester, "-k", "yours", cache, f"--q3omni-quantized={pair / 'quantized'}")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["SKIPPED *: not checked: needs the source: * (--q3omni-original)"])


def test_the_fault_of_your_checkpoint_fails_the_check_that_names_it(pytester, cache, pair, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(pair / "quantized", broken)
    config = json.loads((broken / "config.json").read_text())
    del config["quantization_config"]["quantized_layers"]["thinker.model.layers.1.self_attn.o_proj"]
    (broken / "config.json").write_text(json.dumps(config))
    result = run(pytester, "-k", "yours and (check or verdict)", cache, f"--q3omni-quantized={broken}")
    result.stdout.fnmatch_lines(
        ["thinker.model.layers.1.self_attn.o_proj.weight: packed, and not declared; expected *", "packed: 1 error, *"]
    )
    assert result.parseoutcomes()["failed"] == 2, "the check, and the verdict it belongs to"


def damage(directory, change, source="config.json"):
    content = json.loads((directory / source).read_text())
    change(content)
    (directory / source).write_text(json.dumps(content))


def outcomes(pytester):
    """Name -> (what became of it, its message, its properties), of the items about the user's checkpoint."""
    found = {}
    for case in ElementTree.parse(pytester.path / "junit.xml").iter("testcase"):
        name, _, kind = case.attrib["name"].removesuffix("]").partition("[yours-")
        if kind:
            results = [(part.tag, part.attrib["message"]) for part in case if part.tag != "properties"]
            told = [(part.attrib["name"], part.attrib["value"]) for part in case.iter("property")]
            found[f"{name} {kind}"] = (*(results or [("passed", "")])[0], told)
    return found


def test_junit_names_the_check_that_fails_and_what_is_not_checked(pytester, cache, pair, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(pair / "quantized", broken)
    damage(broken, lambda config: config["thinker_config"]["text_config"].update(rope_theta=7))
    damage(broken, lambda config: config["thinker_config"]["text_config"]["rope_parameters"].update(rope_theta=7))
    options = [f"--q3omni-quantized={broken}", f"--q3omni-original={pair / 'original'}"]
    run(pytester, "-k", "yours and (test_check or test_verdict)", "--junitxml=junit.xml", cache, *options)
    found = outcomes(pytester)
    assert {name for name in found if name.startswith("test_check ")} == {f"test_check {name}" for name in CHECKS}
    assert {name for name, (result, *_) in found.items() if result == "failure"} == {
        "test_check config-fields",
        "test_verdict consistent",
    }
    _, message, told = found["test_check config-fields"]
    for part in ("rope_theta", "7", "expected", "Fix: ", "[config-fields, error]"):
        assert part in message
    assert ("verdict", "consistent") in told
    assert ("checkpoint", str(broken)) in told
    assert dict(told)["asks"].startswith("config.json says what the source's says")
    assert "checks passed" in dict(found["test_verdict packed"][2])["why"]


def test_an_error_is_not_hidden_by_what_could_not_be_checked(pytester, cache, pair, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(pair / "quantized", broken)
    damage(broken, lambda config: config.update(im_start_token_id=7))
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[:-1000])
    options = [f"--q3omni-quantized={broken}", f"--q3omni-original={pair / 'original'}"]
    run(pytester, "-k", "yours and (test_check or test_verdict)", "--junitxml=junit.xml", cache, *options)
    found = outcomes(pytester)
    failed = {name for name, (result, *_) in found.items() if result == "failure"}
    assert failed == {"test_check container", "test_check config-fields", "test_verdict consistent"}
    for name in ("test_check packed-weights", "test_check declared-storage", "test_verdict packed"):
        assert found[name][:2] == ("skipped", "not checked: part of the weights cannot be read; see the findings")
    assert "incomplete" in dict(found["test_check block-scales"][2])


def test_warnings_are_seen_and_fail_nothing(pytester, cache, pair):
    options = [f"--q3omni-quantized={pair / 'quantized'}", "-W", "error"]
    result = run(pytester, "-k", "yours and expert-coverage", "--junitxml=junit.xml", cache, *options)
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] == 1, "-k takes a check's name"
    result.stdout.fnmatch_lines(["*CheckpointWarning: thinker.model.layers.0.mlp.experts: * saw no image: *"])
    result_, _, told = outcomes(pytester)["test_check expert-coverage"]
    assert result_ == "passed"
    assert any(name == "warning" and "saw no image" in value for name, value in told)


def test_what_cannot_be_read_is_one_line_for_each_item(pytester, cache, pair, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(pair / "quantized", broken)
    (broken / "config.json").write_text("{")
    result = run(
        pytester,
        "-k",
        "yours and test_check and not verdict",
        "--junitxml=junit.xml",
        cache,
        f"--q3omni-quantized={broken}",
    )
    assert result.parseoutcomes()["errors"] == len(CHECKS)
    assert "Traceback" not in result.stdout.str()
    assert "Error:" not in result.stdout.str()
    (message,) = {message for _, message, _ in outcomes(pytester).values()}
    assert "nothing can be judged: Unreadable: " in message
    assert "config.json: not valid JSON" in message


def test_the_processes_of_a_run_judge_once(pair, tmp_path, monkeypatch):
    asked = []
    verify = api.verify
    monkeypatch.setattr(api, "verify", lambda *args, **options: asked.append(args) or verify(*args, **options))
    answers = []
    for checkpoint in (pair / "quantized", pair):  # the second holds no checkpoint
        for _ in range(2):
            _judged.judged.cache_clear()  # as another worker has nothing in memory
            answers.append(_judged.judged(checkpoint, pair / "original", None, tmp_path))
    assert len(asked) == 2
    assert answers[0] == answers[1]
    assert answers[0].verdict("faithful").state == "pass"
    assert answers[2] == answers[3]
    assert answers[2].startswith("Unreadable: ")


ENGINE = """#!{python}
import json, sys
if sys.argv[1] != "-c":  # no probe: a question, whose answer is a file
    json.dump({answer!r}, open(sys.argv[3], "w"))
"""


def test_an_engine_that_is_asked_answers_for_its_items(pytester, cache, pair, monkeypatch):
    refusal = {"step": "load", "message": "no such parameter: lm_head", "tensor": "thinker.lm_head.weight"}
    answer = {"rejected": refusal, "versions": {"vllm": "0.32.0"}, "tensors": 1, "seconds": 1.0, "peak_bytes": 1}
    engine = pytester.path / "python"
    engine.write_text(ENGINE.format(python=sys.executable, answer=answer))
    engine.chmod(0o755)
    monkeypatch.setenv("Q3OMNI_ENGINE_PYTHON", str(engine))
    options = [f"--q3omni-quantized={pair / 'quantized'}", "--q3omni-engine=vllm", "--junitxml=junit.xml"]
    run(pytester, "-k", "yours and (test_check or test_verdict)", cache, *options)
    found = outcomes(pytester)
    failed = {name: message for name, (result, message, _) in found.items() if result == "failure"}
    assert failed.keys() == {"test_check loader-accepts", "test_verdict loads"}
    assert "no such parameter: lm_head" in failed["test_check loader-accepts"]


def test_hardware_items_say_what_they_need(pytester, cache):
    result = run(pytester, "-m", "thor", cache)
    assert result.ret == 0
    assert result.parseoutcomes().keys() == {"skipped", "deselected"}
    only = run(pytester, "-m", "thor", "--benchmark-only", cache)
    assert only.ret == 0
    only.stdout.fnmatch_lines(["SKIPPED *: needs an NVIDIA Thor (compute capability 11.0); *"])


def test_modules_are_found_by_name_and_need_no_conftest():
    files = {file.name for file in Path(conformance.__file__).parent.glob("*.py")}
    assert {file for file in files if not file.startswith("_")} == {file for file in files if file.startswith("test_")}
    assert len(files) == len({file for file in files if file.startswith("test_")}) + 5, (
        "__init__, _judged, _pairs, _serving, _speed"
    )
