"""`python FILE REQUEST RESPONSE`: answer one request. `python FILE serve SCRATCH READ WRITE`: answer many, by pipes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_NAME = "q3omni_vllm_inside"


def _load_folder() -> None:
    """Make this folder a package under a name of its own.

    On `sys.path` its neighbours would be in the way: `engines/transformers.py` is not the library. In processes that
    vLLM spawns, too: they import this file again, and look for `worker.py` under that name.
    """
    here = Path(__file__).parent
    sys.path[:] = [place for place in sys.path if place != str(here)]
    spec = importlib.util.spec_from_file_location(_NAME, here / "__init__.py", submodule_search_locations=[str(here)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{here} is no package")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = module
    spec.loader.exec_module(module)


def main(first: str, *rest: str) -> None:
    """Answer the request in one file with another file, examine this interpreter, or serve."""
    if first == "serve":
        serve = importlib.import_module(f"{_NAME}.serve")
        scratch, reading, writing = rest
        serve.serve(Path(scratch), int(reading), int(writing))
    elif first == "doctor":
        doctor = importlib.import_module(f"{_NAME}.doctor")
        doctor.examine(*map(Path, rest))
    else:
        answer = importlib.import_module(f"{_NAME}.answer")
        answer.answer(Path(first), Path(*rest))


if _NAME not in sys.modules:
    _load_folder()
if __name__ == "__main__":
    main(*sys.argv[1:])
