"""Our items beside pytest-benchmark: never timed by parallel workers, and only timed when asked."""

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


def test_benchmarks_of_the_suite_wait_until_asked_for(pytester):
    result = run(pytester, *BENCHMARKS)
    assert result.parseoutcomes() == {"skipped": 1, "deselected": 2}
    result.stdout.fnmatch_lines(["SKIPPED *a benchmark: runs with --benchmark-only or --benchmark-enable"])


@pytest.mark.parametrize("asked", ["--benchmark-only", "--benchmark-enable"])
def test_benchmarks_of_the_suite_run_when_asked_for(pytester, asked):
    outcomes = pytester.runpytest_subprocess("-p", "no:cacheprovider", *BENCHMARKS, asked).parseoutcomes()
    assert outcomes == {"passed": 1, "deselected": 2}


def test_benchmarks_of_others_are_left_alone(pytester):
    pytester.makepyfile("def test_a(benchmark): benchmark.pedantic(int)")
    run(pytester).assert_outcomes(passed=1)
