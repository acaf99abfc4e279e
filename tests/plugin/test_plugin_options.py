"""Flags and their ini twins: which one wins, what relative paths start from, and what wrong values say."""

import pytest

pytestmark = pytest.mark.tiny

SHOW = """
def test_settings(pytestconfig):
    print()
    from pytest_q3omni.plugin.options import SETTINGS
    for name in ("original", "quantized", "recipe", "conversations", "cache", "report", "engine"):
        print(name, getattr(pytestconfig.stash[SETTINGS], name))
"""
FLAGS = ["original", "quantized", "recipe", "conversations", "cache", "report", "engine"]


def checkpoint(pytester: pytest.Pytester, name: str) -> str:
    pytester.mkdir(name).joinpath("config.json").write_text("{}")
    return name


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-s", *arguments)


def test_without_options_everything_is_none(pytester):
    pytester.makepyfile(SHOW)
    run(pytester).stdout.fnmatch_lines([f"{name} None" for name in FLAGS])


def test_the_ini_shows_through_relative_to_the_root_directory(pytester):
    pytester.makeini("[pytest]\nq3omni_original = models/bf16\nq3omni_recipe = bf16\nq3omni_cache = ~/somewhere\n")
    pytester.makepyfile(SHOW)
    below = pytester.mkdir("below")
    pytester.chdir()
    result = pytester.runpytest_inprocess("-s", "-p", "no:cacheprovider", f"--rootdir={pytester.path}")
    result.stdout.fnmatch_lines([f"original {pytester.path / 'models' / 'bf16'}", "recipe bf16", "cache /*/somewhere"])
    assert below.exists()


def test_the_flag_wins_over_the_ini(pytester):
    pytester.makeini("[pytest]\nq3omni_original = ini-model\nq3omni_cache = ini-cache\n")
    pytester.makepyfile(SHOW)
    result = run(pytester, f"--q3omni-original={checkpoint(pytester, 'mine')}")
    result.stdout.fnmatch_lines([f"original {pytester.path / 'mine'}", f"cache {pytester.path / 'ini-cache'}"])


def test_a_flag_is_relative_to_where_pytest_was_started(pytester, monkeypatch):
    pytester.makeini("[pytest]\n")
    pytester.makepyfile(SHOW)
    below = pytester.mkdir("below")
    checkpoint(pytester, "below/mine")
    monkeypatch.chdir(below)
    result = run(pytester, "--q3omni-original=mine", str(pytester.path))
    result.stdout.fnmatch_lines([f"rootdir: {pytester.path}", f"original {below / 'mine'}"])


def test_flags_of_serving_benchmarks(pytester):
    show = "def test_it(pytestconfig):\n    from pytest_q3omni.plugin.options import SETTINGS\n"
    show += "    found = pytestconfig.stash[SETTINGS]\n"
    show += "    print()\n    print(found.random_weights, dict(found.min_speedup), found.min_memory_ratio)\n"
    pytester.makepyfile(show)
    run(pytester).stdout.fnmatch_lines(["False {} None"])
    flags = ["--q3omni-random-weights", "--q3omni-min-speedup=8=1.2, 32=1.5", "--q3omni-min-memory-ratio=2.5"]
    run(pytester, *flags).stdout.fnmatch_lines(["True {8: 1.2, 32: 1.5} 2.5"])
    pytester.makeini(
        "[pytest]\nq3omni_random_weights = true\nq3omni_min_speedup = 1.1 8=1.2\nq3omni_min_memory_ratio = 2\n"
    )
    run(pytester).stdout.fnmatch_lines(["True {0: 1.1, 8: 1.2} 2.0"])
    run(pytester, "--q3omni-min-speedup=3").stdout.fnmatch_lines(["True {0: 3.0} 2.0"])


@pytest.mark.parametrize("name", [*FLAGS, "min-speedup", "min-memory-ratio"])
def test_every_flag_has_an_ini_twin_and_a_help_text(pytester, name):
    result = run(pytester, "--help")
    text = result.stdout.str()
    assert f"--q3omni-{name}=" in text
    assert f"q3omni_{name.replace('-', '_')} (string):" in text


def test_help_names_the_twin(pytester):
    run(pytester, "--help").stdout.fnmatch_lines(["Qwen3-Omni checkpoints (pytest-q3omni):", "*--q3omni-original=DIR*"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--q3omni-original="], "ERROR: --q3omni-original is empty: give it a value, or leave it out"),
        (["--q3omni-original=absent"], "ERROR: --q3omni-original: */absent: no such directory; expected * Fix: check*"),
        (["--q3omni-quantized=empty"], "ERROR: --q3omni-quantized: */empty: no config.json in it; expected *"),
        (["--q3omni-original=file"], "ERROR: --q3omni-original: */file: not a directory; expected *"),
        (["--q3omni-recipe=bf16"], "ERROR: --q3omni-recipe bf16 has nothing to quantize: give --q3omni-original, too"),
        (
            ["--q3omni-original=mine", "--q3omni-recipe=nvfp4-defalt"],
            "ERROR: --q3omni-recipe: no recipe is called 'nvfp4-defalt'; *did you mean 'nvfp4-default'?",
        ),
        (["--q3omni-conversations=absent"], "ERROR: --q3omni-conversations */absent: no such file; *"),
        (
            ["--q3omni-engine=llama"],
            "ERROR: --q3omni-engine: no engine is called 'llama'; expected vllm. Fix: choose *",
        ),
        (
            ["--q3omni-engine=vllm"],
            "ERROR: --q3omni-engine: Q3OMNI_ENGINE_PYTHON */no-python: no such file; expected a Python interpreter. *",
        ),
        (["--q3omni-report=out.pdf"], "ERROR: --q3omni-report */out.pdf: unknown suffix; expected .html or .json"),
    ],
)
def test_a_wrong_flag_ends_the_run_before_collection(pytester, arguments, message, monkeypatch):
    monkeypatch.setenv("Q3OMNI_ENGINE_PYTHON", str(pytester.path / "no-python"))
    checkpoint(pytester, "mine")
    pytester.mkdir("empty")
    pytester.path.joinpath("file").write_text("")
    pytester.makepyfile("raise SystemError('collected')")
    result = run(pytester, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_a_wrong_ini_leaves_other_tests_alone(pytester):
    pytester.makeini("[pytest]\nq3omni_original = absent\nq3omni_quantized = absent\n")
    pytester.makepyfile("def test_other(): pass\ndef test_ours(original_checkpoint): pass")
    result = run(pytester)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*/absent: no such directory; expected a Hugging Face model directory.*"])


@pytest.mark.parametrize("flag", ["--q3omni-original", "--q3omni-quantized", "--q3omni-conversations"])
def test_an_address_is_refused(pytester: pytest.Pytester, flag: str) -> None:
    result = pytester.runpytest_subprocess(flag, "hf://owner/name")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{flag} hf://owner/name: an address; expected a directory. Fix: download it*"])
