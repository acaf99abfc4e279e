"""`python FOLDER REQUEST RESPONSE`: answer one request, in a process of its own."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_NAME = "q3omni_vllm_inside"


def _load_folder() -> None:
    """Make this folder a package under a name of its own.

    On `sys.path` its neighbours would be in the way: `engines/transformers.py` is not the library.
    """
    here = Path(__file__).parent
    spec = importlib.util.spec_from_file_location(_NAME, here / "__init__.py", submodule_search_locations=[str(here)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{here} is no package")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = module
    spec.loader.exec_module(module)


def main(request: str, response: str) -> None:
    """Answer the request in one file with another file."""
    sys.path[:] = [place for place in sys.path if place != str(Path(__file__).parent)]
    _load_folder()
    answer = importlib.import_module(f"{_NAME}.answer")
    answer.answer(Path(request), Path(response))


if __name__ == "__main__":
    main(*sys.argv[1:])
