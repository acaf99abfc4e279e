"""The plugin is imported at every start of every project that has the package: it must cost next to nothing."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.tiny

HEAVY = (
    "torch", "transformers", "modelopt", "vllm", "numba", "numpy", "matplotlib", "huggingface_hub", "safetensors",
    "typer", "rich", "jinja2", "ml_dtypes",
)  # fmt: skip
LOADED = f"[name for name in {HEAVY!r} if name in sys.modules]"


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_importing_the_plugin_imports_nothing_heavy():
    assert run(f"import sys, pytest_q3omni.plugin; print({LOADED})") == "[]"


@pytest.mark.parametrize(
    "module",
    ["options", "markers", "fixtures", "store", "twins", "hooks", "benchmarks", "hint", "locks", "terminal", "turns",
     "workers", "reporting"],
)  # fmt: skip
def test_each_module_of_the_plugin_imports_alone_and_light(module):
    strict = "import sys, warnings; warnings.simplefilter('error'); import pytest_q3omni.plugin"
    assert run(f"{strict}.{module}; print({LOADED})") == "[]"


def test_a_whole_run_of_a_foreign_project_imports_nothing_heavy(pytester):
    pytester.makeconftest(f"import sys\ndef pytest_unconfigure(): print({LOADED}, end=' heavy modules')")
    pytester.makepyfile("import pytest\ndef test_a(): pass\n@pytest.mark.tiny\ndef test_b(original_checkpoint): pass")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    result.assert_outcomes(passed=2)
    assert "[] heavy modules" in result.stdout.str()


def test_without_our_options_no_report_object_is_registered(pytester):
    pytester.makepyfile("def test_a(pytestconfig): assert not pytestconfig.pluginmanager.has_plugin('q3omni-report')")
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
