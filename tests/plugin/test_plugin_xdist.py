"""The plugin under pytest-xdist: refusals reach the terminal, hardware items take turns."""

import pytest

pytestmark = pytest.mark.tiny


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n", "2", *arguments)


def test_a_marker_refused_by_the_workers_is_a_usage_error_of_the_run(pytester):
    pytester.makepyfile(test_it="import pytest\n@pytest.mark.gpu('big')\ndef test_a(): pass\ndef test_b(): pass")
    result = run(pytester)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: test_it.py::test_a: marker gpu got the unknown argument 'big'; expected *"])
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


def test_a_wrong_flag_is_refused_before_workers_start(pytester):
    result = run(pytester, "--q3omni-original=absent")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --q3omni-original: */absent: no such directory;*"])
    assert "workers" not in result.stdout.str()


def test_the_command_is_printed_where_nothing_is_selected(pytester):
    pytester.makepyfile("def test_a(): pass")
    result = run(pytester, "-m", "tiny")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["  pytest --pyargs pytest_q3omni.conformance -m tiny"])


def test_settings_reach_the_workers(pytester):
    pytester.mkdir("mine").joinpath("config.json").write_text("{}")
    pytester.makeini("[pytest]\nq3omni_quantized = mine\n")
    pytester.makepyfile(
        "def test_a(original_checkpoint, quantized_checkpoint):\n"
        "    assert original_checkpoint == quantized_checkpoint\n    assert original_checkpoint.is_absolute()"
    )
    run(pytester, "--q3omni-original=mine").assert_outcomes(passed=1)


CACHED = """
import pytest

@pytest.mark.gpu
def test_gpu(): pass

def test_twin(quantized_checkpoint): pass

def test_plain(): pass
"""
WORKERS = pytest.mark.parametrize("workers", ["0", "2"])
UNWRITABLE = "/dev/null/x* Not a directory; expected a directory that can be written. Fix: *--q3omni-cache"


def run_without_cache(pytester: pytest.Pytester, devices: str, workers: str) -> pytest.RunResult:
    pytester.makeconftest(f"from pytest_q3omni.engines import device\ndevice.probe = lambda: device.Devices({devices})")
    pytester.makepyfile(test_it=CACHED)
    result = run(pytester, "-n", workers, "-rs", "--q3omni-cache=/dev/null/x")
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    assert "crashed" not in result.stdout.str()
    return result


@WORKERS
def test_without_a_gpu_an_unwritable_cache_is_no_reason_to_fail(pytester, workers):
    result = run_without_cache(pytester, "why_none='none is here'", workers)
    result.assert_outcomes(passed=1, skipped=1, errors=1)
    needed = "SKIPPED * needs a CUDA device of compute capability 8.0 or higher; none is here; *doctor*"
    result.stdout.fnmatch_lines([needed])
    result.stdout.fnmatch_lines(["*ERROR at setup of test_twin*", UNWRITABLE])


def test_an_item_that_gets_no_turn_fails_and_names_the_cache(pytester):
    result = run_without_cache(pytester, "(('pretended', (9, 0)),)", "2")
    result.assert_outcomes(passed=1, errors=2)
    for lines in (["*ERROR at setup of test_gpu*", f"Unwritable: {UNWRITABLE}"], ["*setup of test_twin*", UNWRITABLE]):
        result.stdout.fnmatch_lines(lines)
    assert "Traceback" not in result.stdout.str()


def test_in_one_process_a_hardware_item_needs_no_turn(pytester):
    run_without_cache(pytester, "(('pretended', (9, 0)),)", "0").assert_outcomes(passed=2, errors=1)


# Each item waits inside until both workers have asked for their turn, so a second one inside would be seen.
TURNS = """
import os
from pathlib import Path
import pytest

HERE = Path(__file__).parent

@pytest.mark.gpu
@pytest.mark.parametrize("number", range(6))
def test_alone(number):
    inside = os.open(HERE / "inside", os.O_CREAT | os.O_EXCL)
    while len(list(HERE.glob("asked-*"))) < 2:
        os.sched_yield()
    os.close(inside)
    (HERE / "inside").unlink()
"""
PRETEND = """
import os
from pathlib import Path
from pytest_q3omni.engines import device
from pytest_q3omni.plugin import turns

device.probe = lambda: device.Devices((("pretended", (9, 0)),))
original = turns.locked

def locked(file):
    Path(__file__).with_name(f"asked-{os.getpid()}").touch()
    return original(file)

turns.locked = locked
"""


def test_hardware_items_of_different_workers_never_overlap(pytester):
    pytester.makeconftest(PRETEND)
    pytester.makepyfile(TURNS)
    result = run(pytester, "--q3omni-cache=cache")
    result.assert_outcomes(passed=6)
    assert len(list(pytester.path.glob("asked-*"))) == 2
    assert (pytester.path / "cache" / "hardware.lock").exists()
