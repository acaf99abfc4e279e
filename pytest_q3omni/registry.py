"""A folder is a registry: one file, one recipe (or layout, check, engine); the file's name is its name.

Names use `-` where the file name has `_`. Listing imports nothing; `load` imports the one module asked for.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from pytest_q3omni.errors import UnknownName


def names(package: str) -> tuple[str, ...]:
    """The registered names in `package` (a dotted name), sorted; files that begin with `_` are not members."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UnknownName(f"{package} is not a package", fix="pass the dotted name of a registry folder")
    files = (file for root in spec.submodule_search_locations for file in Path(root).glob("*.py"))
    return tuple(sorted({file.stem.replace("_", "-") for file in files if not file.stem.startswith("_")}))


def load(package: str, name: str) -> ModuleType:
    """Import the member `name` of `package`.

    Raises:
        UnknownName: no such member; lists the known ones and suggests the nearest.
    """
    known = names(package)
    if name not in known:
        kind = package.rpartition(".")[2].rstrip("s")
        nearest = get_close_matches(name, known, n=1)
        hint = f"did you mean '{nearest[0]}'?" if nearest else f"choose one of: {', '.join(known)}"
        raise UnknownName(f"no {kind} is called '{name}'", expected=f"one of {', '.join(known)}", fix=hint)
    return import_module(f"{package}.{name.replace('-', '_')}")
