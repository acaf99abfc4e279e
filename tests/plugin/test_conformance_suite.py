"""The suite that ships, run as a stranger runs it: from an empty folder, on the tiny pair or on their own."""

import json
import os
import shutil
import xml.etree.ElementTree as ElementTree
from importlib.util import find_spec
from pathlib import Path

import pytest

from pytest_q3omni import api, conformance
from pytest_q3omni.omni.tiny import checkpoint_path, record_path
from pytest_q3omni.registry import names

pytestmark = pytest.mark.tiny

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
    assert (outcomes["skipped"], outcomes.get("failed"), outcomes.get("errors")) == (6, None, None), "the benchmarks"
    assert items(pytester) >= {f"test_check[tiny-{check}]" for check in names("pytest_q3omni.verify.checks")}
    assert items(pytester) >= {
        f"test_verdict[tiny-{name}]" for name in ("packed", "consistent", "faithful", "calibrated")
    }


@pytest.mark.usefixtures("light")
def test_without_torch_the_files_are_judged_and_the_rest_says_why(pytester, cache):
    result = run(pytester, "-m", "tiny", "--junitxml=junit.xml", cache)
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] >= len(names("pytest_q3omni.verify.checks")) + 10
    result.stdout.fnmatch_lines(["SKIPPED *: needs torch and transformers: pip install 'pytest-q3omni[[]quantize]'"])


def test_with_workers_it_is_the_same(pytester, cache):
    result = run(pytester, "-m", "tiny", "-n", "2", "-k", "checkpoint or sizes or calibration", cache)
    assert result.ret == 0
    assert "failed" not in result.parseoutcomes()


def test_your_pair_is_asked_beside_the_tiny_one(pytester, cache, pair):
    options = [f"--q3omni-original={pair / 'original'}", f"--q3omni-quantized={pair / 'quantized'}"]
    result = run(pytester, "-k", "yours", "--junitxml=junit.xml", cache, *options)
    assert result.ret == 0
    assert result.parseoutcomes().keys() == {"passed", "deselected"}
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
    assert len(files) == len({file for file in files if file.startswith("test_")}) + 3, "__init__, _pairs, _speed"
