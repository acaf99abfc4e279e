"""Write docs/reference from the code: `python docs/generate.py`, or another folder: `python docs/generate.py FOLDER`.

Everything there comes from docstrings, signatures and option declarations. Nothing is read from `--help` output, whose
shape follows the releases of typer and argparse; the same declarations make both.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator
from enum import EnumMeta
from pathlib import Path
from textwrap import dedent
from typing import Any

from as_markdown import page, plain, signature, table, with_fields

import pytest_q3omni
from pytest_q3omni import api, assertions, cli, errors, nvfp4, records
from pytest_q3omni.conformance import __doc__ as conformance_text
from pytest_q3omni.plugin import markers, options
from pytest_q3omni.verify.checks import VERDICTS, Check, checks

REFERENCE = Path(__file__).parent / "reference"
PACKAGE = Path(pytest_q3omni.__file__).parent


# --- cli.md


def cli_page() -> str:
    """Every verb with its arguments and options, from the declarations that `--help` prints."""
    verbs = [(info.callback, info.epilog or "") for info in cli.app.registered_commands if info.callback]
    intro = f"""
        {cli.app.registered_callback.callback.__doc__ if cli.app.registered_callback else ""}
        `q3omni VERB --help` prints what is below; `q3omni --version` prints the version.

        Exit codes of every verb: **0** done and nothing failed, **1** judged and failed, **2** could not (bad input, a
        package that is not installed, a failed calibration sample). No traceback: `Q3OMNI_DEBUG=1` shows one.
        Results go to standard output, progress to standard error, and that only on a terminal.
        """
    return page("Command line", intro, *(_verb(function, epilog) for function, epilog in verbs))


def _verb(function: Callable[..., Any], epilog: str) -> str:
    name, arguments, rows = function.__name__, [], []
    for parameter, kind, info in _declared(function):
        if type(info).__name__ == "ArgumentInfo":
            arguments.append(info.metavar)
            rows.append((f"`{info.metavar}`", info.help, "required"))
        else:
            rows.append(_option(parameter, kind, info))
    required = [option.strip("`") for option, _, default in rows if option.startswith("`--") and default == "required"]
    usage = " ".join(["q3omni", name, *arguments, *required, "[OPTIONS]"])
    example = epilog.removeprefix("Example: ")
    return "\n\n".join(
        [f"## q3omni {name}", plain(function.__doc__), f"```text\n{usage}\n```", f"Example: `{example}`",
         table(("argument or option", "meaning", "default"), rows)]
    )  # fmt: skip


def _declared(function: Callable[..., Any]) -> Iterator[tuple[inspect.Parameter, Any, Any]]:
    """Each parameter with its type and typer's declaration."""
    hints = typing.get_type_hints(function, include_extras=True)
    for parameter in inspect.signature(function).parameters.values():
        kind, info = typing.get_args(hints[parameter.name])[:2]
        yield parameter, kind, info


def _option(parameter: inspect.Parameter, kind: Any, info: Any) -> tuple[str, str, str]:
    # Under Annotated, typer's first positional argument is a name as well, though the field is called `default`.
    flag = next(name for name in (info.default, *(info.param_decls or ())) if isinstance(name, str))
    choices = next((part for part in (kind, *typing.get_args(kind)) if isinstance(part, EnumMeta)), None)
    value = "VALUE" if choices is None else "|".join(choices)
    required = parameter.default is parameter.empty
    default = "required" if required else "" if parameter.default is None else f"`{parameter.default}`"
    repeated = "; may be repeated" if "list[" in str(kind) and "repeated" not in info.help else ""
    return f"`{flag} {value}`", info.help + repeated, default


# --- api.md and assertions.md


def api_page() -> str:
    """The public functions, and the records that they return."""
    intro = """
        ```python
        from pytest_q3omni import api
        from pytest_q3omni.nvfp4 import pack_tensor, unpack_tensor
        ```

        `api` has what the verbs of the command line call; importing it loads neither torch nor numpy.
        `AnyPath` is `str | os.PathLike[str]`. `progress` is called with (what, done, total) during long work.
        """
    functions = "\n\n".join(_function(f"api.{name}", getattr(api, name)) for name in api.__all__)
    packing = "\n\n".join(
        [*(_function(name, getattr(nvfp4, name)) for name in ("pack_tensor", "unpack_tensor")), _record(nvfp4.Packed)]
    )
    kinds = [kind for kind in vars(records).values() if dataclasses.is_dataclass(kind)]
    return page(
        "Python",
        intro,
        "## Functions",
        functions,
        "## Packing one tensor",
        packing,
        "## Records",
        "In `pytest_q3omni.records`: plain, frozen dataclasses.",
        *(_record(kind) for kind in kinds),
    )


def assertions_page() -> str:
    """What a test can say."""
    intro = """
        ```python
        from pytest_q3omni.assertions import assert_compression_ratio, assert_verified
        ```

        `Checkpoint` is a path (`str` or `os.PathLike`) or anything with a `.path`, such as the fixtures' model handles;
        `Record` is one of these, or a `CalibrationRecord`.
        """
    functions = [_function(name, getattr(assertions, name)) for name in assertions.__all__]
    return page(
        "Assertions", intro, plain(assertions.__doc__), *functions, "## What they return", _record(records.Measurement)
    )


def _function(name: str, function: Callable[..., Any]) -> str:
    short = name.rpartition(".")[2]
    text = with_fields(plain(function.__doc__), list(inspect.signature(function).parameters))
    return "\n\n".join([f"### {name}", signature(short, function), text])


def _record(kind: type) -> str:
    names = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else kind._fields
    types = {name: getattr(kind.__annotations__[name], "__forward_arg__", kind.__annotations__[name]) for name in names}
    fields = [f"{name}: {types[name]}" for name in names]
    computed = [
        f"{name}: {getter.fget.__annotations__['return']}  # computed"
        for name, getter in vars(kind).items()
        if isinstance(getter, property) and not name.startswith("_")
    ]
    listing = "\n".join(["```text", *fields, *computed, "```"])
    return "\n\n".join([f"### {kind.__name__}", with_fields(plain(kind.__doc__), names), listing])


# --- pytest.md


class _Declarations:
    """Stands in for pytest's parser and config: keeps what the plugin declares."""

    def __init__(self) -> None:
        self.flags: list[tuple[str, str, str]] = []
        self.markers: list[str] = []

    def getgroup(self, name: str, description: str) -> _Declarations:  # noqa: ARG002  # pytest's signature
        return self

    def addoption(self, flag: str, *, default: None, help: str, metavar: str = "", action: str = "") -> None:  # noqa: ARG002
        self.flags.append((flag, metavar, help.rpartition(". ini: ")[0]))

    def addini(self, name: str, help: str, default: object, type: str = "") -> None:
        pass

    def addinivalue_line(self, name: str, line: str) -> None:  # noqa: ARG002  # likewise
        self.markers.append(line)


def pytest_page() -> str:
    """Options, markers, fixtures and the suite that ships."""
    declared = _Declarations()
    options.declare(typing.cast("Any", declared))
    markers.register(typing.cast("Any", declared))
    flags = [
        (f"`{flag} {metavar}`", f"`{options.ini_name(flag)}`", f"{text[0].upper()}{text[1:]}.")
        for flag, metavar, text in declared.flags
    ]
    marks = [line.removesuffix(" (pytest-q3omni)").partition(": ") for line in declared.markers]
    suite = [(f"`{file.stem}`", _docstring(file)) for file in sorted((PACKAGE / "conformance").glob("test_*.py"))]
    return page(
        "pytest",
        """
        The plugin is active wherever the package is installed; `-p no:q3omni` leaves it out.
        """,
        "## Options",
        "The flag wins over the ini. Relative paths of flags start where pytest was started, those of the ini at the "
        "root directory.",
        table(("flag", "ini", "meaning"), flags),
        "## Markers",
        table(("marker", "meaning"), [(f"`{name}`", text) for name, _, text in marks]),
        "An item has one hardware marker at most, and no marker takes an argument; both are refused at collection.",
        "## Fixtures",
        table(("fixture", "gives", "what it is"), list(_fixtures())),
        dedent(_WHICH).strip(),
        "## The suite that ships",
        plain(conformance_text),
        table(("module", "asks"), suite),
    )


_WHICH = """
Without options every item gets the built-in tiny pair; its quantized half is packed into the cache, without torch. With
options it gets yours, except items marked `tiny`. Half of a pair of yours is never mixed with the other half of the
tiny one: where only one is given, what asks for the other is skipped, and the reason names the option. Items marked
`gpu` or `thor` run on your checkpoint only. Two models that do not fit into memory together close each other.
"""


def _docstring(file: Path) -> str:
    return " ".join((ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split())


def _fixtures() -> Iterator[tuple[str, str, str]]:
    tree = ast.parse((PACKAGE / "plugin" / "fixtures.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and "pytest.fixture" in map(ast.unparse, node.decorator_list):
            returns = "" if node.returns is None else ast.unparse(node.returns)
            yield f"`{node.name}`", f"`{returns}`", " ".join((ast.get_docstring(node) or "").split())


# --- checks.md and errors.md

_NEEDS = {
    "": "the checkpoint",
    "source": "the source",
    "record": "the calibration record",
    "engine": "an engine",
    "answers": "answers of an engine",
}


def checks_page() -> str:
    """Every check, by verdict."""
    found = sorted(checks(), key=lambda check: (VERDICTS.index(check.verdict), check.name))
    rows = [
        (check.verdict, f"[{check.name}](#{check.name})", " ".join(check.summary.split()), _NEEDS[check.needs])
        for check in found
    ]
    answered = {check.verdict for check in found}
    others = ", ".join(f"`{verdict}`" for verdict in VERDICTS if verdict not in answered)
    intro = f"""
        `q3omni verify` runs {len(found)} checks. Each belongs to one verdict; an error of any of them makes it `fail`,
        a warning does not. A verdict whose needs are not there is `not checked`. One fault is reported once: a check
        leaves alone what an earlier one explained.

        {others} take more than files, so no check answers them; `q3omni parity` answers `agrees`.

        Which fault each of them catches: [verdicts-by-fault.md](../verdicts-by-fault.md).
        """
    return page("Checks", intro, table(("verdict", "check", "asks", "needs"), rows), *map(_check, found))


def _check(check: Check) -> str:
    after = f" Runs after {', '.join(check.after)}." if check.after else ""
    placed = f"Verdict `{check.verdict}`. Needs {_NEEDS[check.needs]}.{after}"
    return f"## {check.name}\n\n{placed}\n\n{plain(check.description)}"


def errors_page() -> str:
    """The tree of errors, and what each means."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Q3OmniError)]
    intro = """
        Findings of `verify` are not errors: they are collected and reported. An error means that something could not be
        done. The command line prints it in one line, `q3omni: where: found; expected. Fix: ...`, and exits with 2.
        """
    return page("Errors", intro, plain(errors.__doc__), *map(_error, kinds))


def _error(kind: type) -> str:
    bases = ", ".join(f"`{base.__name__}`" for base in kind.__bases__)
    return f"### {kind.__name__}\n\nA kind of {bases}. {plain(kind.__doc__)}"


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "api.md": api_page,
    "assertions.md": assertions_page,
    "pytest.md": pytest_page,
    "checks.md": checks_page,
    "errors.md": errors_page,
}


def main(folder: Path) -> None:
    """Write every page into `folder`."""
    folder.mkdir(exist_ok=True)
    for name, write in PAGES.items():
        (folder / name).write_text(write(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=REFERENCE)
    main(parser.parse_args().folder)
