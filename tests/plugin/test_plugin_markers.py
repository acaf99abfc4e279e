"""The markers tiny, gpu and thor: known, checked at collection, and skipped with what was found."""

import pytest

from pytest_q3omni.engines.device import Devices

pytestmark = pytest.mark.tiny


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-rs", *arguments)


@pytest.fixture
def devices(monkeypatch):
    """Pretend that these devices were found."""

    def pretend(*cuda: tuple[str, tuple[int, int]], why_none: str = "") -> None:
        monkeypatch.setattr("pytest_q3omni.engines.device.probe", lambda: Devices(cuda, why_none))

    return pretend


def test_the_markers_are_known(pytester):
    pytester.makepyfile(
        "import pytest\n@pytest.mark.tiny\ndef test_a(): pass\n@pytest.mark.gpu\ndef test_b(): pass\n"
        "@pytest.mark.thor\ndef test_c(): pass\n"
    )
    assert run(pytester, "--strict-markers", "--collect-only").ret == 0
    lines = run(pytester, "--markers").stdout
    lines.fnmatch_lines(["@pytest.mark.tiny: *", "@pytest.mark.gpu: *8.0*", "@pytest.mark.thor: *11.0*"])


@pytest.mark.parametrize(
    ("decorator", "shown"),
    [("gpu('big')", "gpu got the unknown argument 'big'"), ("tiny(size=2)", "tiny got the unknown argument size=2"),
     ("thor(1, n=2)", "thor got the unknown argument 1, n=2")],
)  # fmt: skip
def test_an_unknown_argument_is_named_with_its_item(pytester, decorator, shown):
    pytester.makepyfile(test_it=f"import pytest\n@pytest.mark.{decorator}\ndef test_a(): pass")
    result = run(pytester)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: test_it.py::test_a: marker {shown}; expected none. Fix: *-p no:q3omni"])


def test_two_hardware_markers_are_refused_even_where_one_is_inherited(pytester):
    pytester.makepyfile(
        test_it="import pytest\n@pytest.mark.gpu\nclass TestIt:\n    @pytest.mark.thor\n    def test_a(self): pass"
    )
    result = run(pytester)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: test_it.py::TestIt::test_a: marked both gpu and thor; *"])


def test_a_tiny_item_may_need_a_gpu(pytester, devices):
    devices(("NVIDIA H100", (9, 0)))
    pytester.makepyfile(
        "import pytest\n@pytest.mark.gpu\n@pytest.mark.tiny\ndef test_a(original_checkpoint):\n"
        "    assert original_checkpoint.parts[-2:] == ('tiny', 'checkpoint')"
    )
    run(pytester).assert_outcomes(passed=1)


HARDWARE = "import pytest\n@pytest.mark.gpu\ndef test_gpu(): pass\n@pytest.mark.thor\ndef test_thor(): pass"


def test_without_a_device_both_skip_and_say_why(pytester, devices):
    devices(why_none="no CUDA device found (torch 2.14, CPU build)")
    pytester.makepyfile(test_it=HARDWARE)
    result = run(pytester)
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(
        [
            "SKIPPED * test_it.py:2: needs a CUDA device of compute capability 8.0 or higher; no CUDA device found "
            "(*); `q3omni doctor` *",
            "SKIPPED * test_it.py:4: needs an NVIDIA Thor (compute capability 11.0); no CUDA device *",
        ]
    )


def test_a_hopper_runs_gpu_items_and_says_what_a_thor_item_needs(pytester, devices):
    devices(("NVIDIA H100", (9, 0)))
    pytester.makepyfile(HARDWARE)
    result = run(pytester)
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(
        ["*needs an NVIDIA Thor (compute capability 11.0); found NVIDIA H100 (9.0); `q3omni doctor` says more"]
    )


def test_a_turing_is_too_old(pytester, devices):
    devices(("Tesla T4", (7, 5)))
    pytester.makepyfile(HARDWARE)
    result = run(pytester)
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["*capability 8.0 or higher; found Tesla T4 (7.5); `q3omni doctor` says more"])


def test_a_thor_is_a_gpu_too(pytester, devices):
    devices(("NVIDIA Thor", (11, 0)))
    pytester.makepyfile(HARDWARE)
    run(pytester).assert_outcomes(passed=2)


def test_the_probe_is_not_asked_for_items_that_need_no_hardware(pytester, monkeypatch):
    monkeypatch.setattr("pytest_q3omni.engines.device.probe", lambda: pytest.exit("asked"))
    pytester.makepyfile("import pytest\n@pytest.mark.tiny\ndef test_a(): pass\n@pytest.mark.gpu\ndef test_b(): pass")
    run(pytester, "-m", "not gpu").assert_outcomes(passed=1, deselected=1)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["-m", "tiny"], "  pytest --pyargs pytest_q3omni.conformance -m tiny"),
        (["-m", "thor", "--benchmark-only"], "  pytest --pyargs pytest_q3omni.conformance -m thor --benchmark-only"),
        (["-m", "tiny and not slow"], "  pytest --pyargs pytest_q3omni.conformance -m 'tiny and not slow'"),
    ],
)
def test_where_a_marker_selects_nothing_the_command_is_printed(pytester, arguments, command):
    pytester.makepyfile("def test_a(): pass")
    result = run(pytester, *arguments)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert command in result.outlines


@pytest.mark.parametrize("arguments", [["-m", "tinyish"], ["-k", "tiny"], ["-m", "not a"]])
def test_nothing_is_printed_for_expressions_of_others(pytester, arguments):
    result = run(pytester, *arguments)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "q3omni:" not in result.stdout.str()
