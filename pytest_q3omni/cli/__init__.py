"""The command line: parse, call the api, print. Exit codes: 0 done, 1 judged and failed, 2 could not.

Progress goes to standard error and only to a terminal; results go to standard output and nothing else does.
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

import typer

from pytest_q3omni.cli.verbs import app
from pytest_q3omni.errors import Q3OmniError
from pytest_q3omni.report.plain import plain

__all__ = ["app", "main"]


_LONGEST = 2_000  # characters of an error; names in it may come from a stranger


def main() -> None:
    """Entry point: every error becomes one line and an exit code."""
    sys.stdout, sys.stderr = _open(sys.stdout), _open(sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a character gets its number
    try:
        app()
    except Exception as error:
        if os.environ.get("Q3OMNI_DEBUG"):
            raise
        _say(_message(error))
        sys.exit(2)


def _open(stream: TextIO | None) -> TextIO:
    """The stream; where it was closed (`>&-`), one that forgets."""
    return stream or Path(os.devnull).open("w", encoding="utf-8")


def _message(error: Exception) -> str:
    """One sentence: a user at 2 a.m. gets no traceback."""
    if isinstance(error, Q3OmniError):
        return str(error)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or error}. Fix: check the path and its permissions"
    hint = "This is a bug: run again with Q3OMNI_DEBUG=1 and report the traceback"
    return f"internal error: {type(error).__name__}: {error}. {hint}"


def _say(message: str) -> None:
    """One line on standard error; a stranger's control characters are written out, and megabytes are cut."""
    told = message if len(message) <= _LONGEST else f"{message[: _LONGEST - 200]} ... {message[-200:]}"
    typer.echo(f"q3omni: {plain(told)}", err=True)
