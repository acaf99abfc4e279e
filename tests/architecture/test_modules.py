"""Every module imports alone, without a warning; registries hold what they promise; public names are pinned."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import pytest_q3omni
from pytest_q3omni import api, assertions, errors, nvfp4
from pytest_q3omni.registry import load, names

pytestmark = pytest.mark.tiny

HEAVY = ("torch", "transformers", "modelopt", "vllm", "numba", "numpy", "matplotlib", "huggingface_hub")
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(pytest_q3omni.__path__, "pytest_q3omni.")
    if ".conformance" not in module.name
)
REGISTRIES = {
    "pytest_q3omni.plan.recipes": "RECIPE",
    "pytest_q3omni.layouts": "LAYOUT",
    "pytest_q3omni.omni.stages": "STAGE",
    "pytest_q3omni.verify.checks": "CHECK",
}
TORCH_FREE = ("derive", "layouts", "nvfp4", "omni", "pack", "parity", "plan", "plugin", "report", "verify")


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_alone_and_without_warnings(module: str, tmp_path: Path) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:pytest_q3omni", "-c", code],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.strip()
    numeric = module.startswith("pytest_q3omni.nvfp4.") and module != "pytest_q3omni.nvfp4.format"
    assert loaded == "[]" or numeric, f"importing {module} loads {loaded}"


@pytest.mark.parametrize("folder", TORCH_FREE)
def test_torch_is_not_imported_inside_functions_either(folder: str) -> None:
    members = [module for module in MODULES if module.startswith(f"pytest_q3omni.{folder}.")]
    assert members
    for module in members:
        tree = ast.parse(Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8"))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert "torch" not in {name.partition(".")[0] for name in imported}, module


@pytest.mark.parametrize(("package", "attribute"), REGISTRIES.items())
def test_every_member_of_a_registry_defines_its_object_and_says_what_it_is(package: str, attribute: str) -> None:
    assert names(package)
    for name in names(package):
        module = load(package, name)
        member = getattr(module, attribute)
        assert module.__doc__, f"{package}.{name} has no docstring"
        assert member.name.replace("_", "-") == name, "the file's name is the member's name"


def test_public_names_are_pinned() -> None:
    """A new name is a decision, not an accident."""
    named = ["calibrate", "demo", "doctor", "find_record", "load_record", "parity", "plan", "quantize", "verify"]
    assert api.__all__ == named
    assert nvfp4.__all__ == ["Packed", "pack_tensor", "unpack_tensor"]
    public = {name for name in vars(assertions) if name.startswith("assert_")}
    assert public == {
        "assert_calibrated",
        "assert_chatml",
        "assert_compression_ratio",
        "assert_expert_coverage",
        "assert_loads_in_vllm",
        "assert_memory_ratio",
        "assert_output_parity",
        "assert_quantized_fraction",
        "assert_speedup",
        "assert_verified",
    }


def test_every_error_survives_a_trip_between_processes_and_has_a_docstring() -> None:
    import pickle  # only here: pytest-xdist sends errors this way; no file of a user is ever unpickled

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Q3OmniError)]
    assert len(kinds) > 10
    for kind in kinds:
        error = kind("found this", where="there", expected="that", fix="do it")
        again = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert type(again) is kind
        assert str(again) == str(error) == "there: found this; expected that. Fix: do it"
        assert kind.__doc__


def test_the_tree_of_errors_is_the_one_in_the_docstring() -> None:
    text = errors.__doc__ or ""
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.Q3OmniError):
            assert kind.__name__ in text


def test_nothing_unpickles() -> None:
    """A checkpoint is untrusted input."""
    words = ("import pickle", "torch.load(", "import joblib", "allow_pickle=True", "trust_remote_code=True", "eval(")
    for module in MODULES:
        source = Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8")
        for word in words:
            assert word not in source.replace(".eval()", ""), f"{module} has {word}"
