"""Our items beside pytest-benchmark: no timing by parallel workers, none unasked, and its gates work on them."""

import json

import pytest

pytestmark = pytest.mark.tiny


REFUSED = ["ERROR: --benchmark-only runs in one process: workers would measure each other. Fix: leave out -n *"]


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-rs", *arguments)


@pytest.mark.parametrize("arguments", [["-n", "2"], ["-n", "2", "--benchmark-skip"], ["--dist=load", "--tx=popen"]])
def test_benchmark_only_with_workers_is_refused(pytester, arguments):
    pytester.makepyfile("def test_a(benchmark): benchmark(int)")
    result = run(pytester, "--benchmark-only", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(REFUSED)


def test_it_is_refused_where_the_ini_says_skip(pytester):
    pytester.makeini("[pytest]\naddopts = --benchmark-skip\n")
    result = run(pytester, "--benchmark-only", "-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(REFUSED)


@pytest.mark.parametrize("arguments", [["-n", "0"], [], ["-p", "no:xdist"]])
def test_benchmark_only_in_one_process_runs(pytester, arguments):
    pytester.makepyfile("def test_a(benchmark): benchmark.pedantic(int)\ndef test_b(): pass")
    run(pytester, "--benchmark-only", *arguments).assert_outcomes(passed=1, skipped=1)


BENCHMARKS = ["--pyargs", "pytest_q3omni.conformance.test_speed", "-m", "tiny"]


def measured(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """The packing benchmarks, in a process of their own, stored in `store/`."""
    options = ["-p", "no:cacheprovider", "--benchmark-storage=file://./store", *BENCHMARKS]
    return pytester.runpytest_subprocess(*options, *arguments)


def test_benchmarks_of_the_suite_wait_until_asked_for(pytester):
    result = run(pytester, *BENCHMARKS)
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED *a benchmark: runs with --benchmark-only or --benchmark-enable"])


@pytest.mark.parametrize("asked", ["--benchmark-only", "--benchmark-enable"])
def test_benchmarks_of_the_suite_run_when_asked_for(pytester, asked):
    measured(pytester, asked).assert_outcomes(passed=2)


def test_benchmarks_of_others_are_left_alone(pytester):
    pytester.makepyfile("def test_a(benchmark): benchmark.pedantic(int)")
    run(pytester).assert_outcomes(passed=1)


def test_what_a_figure_rests_on_is_in_the_json(pytester):
    measured(pytester, "--benchmark-only", "--benchmark-json=now.json").assert_outcomes(passed=2)
    for found in json.loads((pytester.path / "now.json").read_text())["benchmarks"]:
        extra, seconds = found["extra_info"], found["stats"]["median"]
        assert extra["unit"] == "GB/s"
        assert extra["figure"] == pytest.approx(extra["bytes"] / 1e9 / seconds)
        assert extra["ratio"] == pytest.approx(extra["figure"] / extra["baseline_figure"])
        assert extra["baseline"]
        assert extra["device"].endswith("cores")
        assert extra["shape"] == [1536, 2048]
        assert {"python", "numpy", "numba", "ml_dtypes"} == extra["versions"].keys()


GATE = ["--benchmark-only", "--benchmark-compare=*_base", "--benchmark-compare-fail=median:10%"]


def store(pytester: pytest.Pytester, factor: float) -> None:
    """A stored run whose medians are so many times ours, so that no timing decides a test."""
    measured(pytester, "--benchmark-only", "--benchmark-save=base").assert_outcomes(passed=2)
    (file,) = (pytester.path / "store").glob("*/*_base.json")
    data = json.loads(file.read_text())
    for found in data["benchmarks"]:
        found["stats"]["median"] *= factor
    file.write_text(json.dumps(data))


def test_the_gate_fails_a_slower_run_and_names_the_items(pytester):
    store(pytester, 1e-3)
    result = measured(pytester, *GATE)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    for item in ("test_packing", "test_unpacking"):
        result.stderr.fnmatch_lines(["*Performance has regressed*", f"*{item} *Field 'median' has failed*10.0*"])


def test_the_gate_passes_a_run_that_is_not_slower(pytester):
    store(pytester, 1e3)
    result = measured(pytester, *GATE)
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.OK


def test_the_gate_without_a_stored_run_is_no_success(pytester):
    result = measured(pytester, *GATE)
    assert result.ret != pytest.ExitCode.OK
    result.stderr.fnmatch_lines(["*--benchmark-compare-fail requires valid --benchmark-compare*"])
