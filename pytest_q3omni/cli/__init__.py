"""The command line: parse, call the api, print. Exit codes: 0 done, 1 judged and failed, 2 could not.

Progress goes to standard error and only to a terminal; results go to standard output and nothing else does.
"""

from __future__ import annotations

import os
import sys

import typer

from pytest_q3omni.cli.verbs import app

__all__ = ["app", "main"]


def main() -> None:
    """Entry point: every error becomes one line and an exit code."""
    from pytest_q3omni.errors import Q3OmniError

    try:
        app()
    except Q3OmniError as error:
        if os.environ.get("Q3OMNI_DEBUG"):
            raise
        typer.echo(f"q3omni: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        if os.environ.get("Q3OMNI_DEBUG"):
            raise
        place = f"{error.filename}: " if error.filename else ""
        typer.echo(f"q3omni: {place}{error.strerror or error}. Fix: check the path and its permissions", err=True)
        sys.exit(2)
    except Exception as error:  # the last line of defence: a user at 2 a.m. gets a sentence, not a traceback
        if os.environ.get("Q3OMNI_DEBUG"):
            raise
        hint = "This is a bug: run again with Q3OMNI_DEBUG=1 and report the traceback"
        typer.echo(f"q3omni: internal error: {type(error).__name__}: {error}. {hint}", err=True)
        sys.exit(2)
