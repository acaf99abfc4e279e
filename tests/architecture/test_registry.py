"""A folder is a registry."""

import sys
from pathlib import Path

import pytest

from pytest_q3omni.errors import UnknownName
from pytest_q3omni.registry import load, names

pytestmark = pytest.mark.tiny


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    home = tmp_path / "some_recipes"
    home.mkdir()
    for name in ("__init__", "_protocol", "first_one", "second"):
        (home / f"{name}.py").write_text(f"LOADED = {name!r}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "some_recipes"


def test_names_are_files_and_listing_imports_none(package: str) -> None:
    assert names(package) == ("first-one", "second")
    assert not [name for name in sys.modules if name.startswith("some_recipes.")]


def test_one_is_loaded_on_demand(package: str) -> None:
    assert load(package, "first-one").LOADED == "first_one"
    assert "some_recipes.second" not in sys.modules


@pytest.mark.parametrize("name", ["first-oen", "_protocol", "__init__", "", "../second", "first_one"])
def test_an_unknown_name_lists_the_known_ones(package: str, name: str) -> None:
    with pytest.raises(UnknownName, match=r"expected one of first-one, second"):
        load(package, name)


def test_no_package_is_no_registry() -> None:
    with pytest.raises(UnknownName, match="is not a package"):
        names("json.decoder")
