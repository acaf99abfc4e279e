"""Options and arguments that several verbs share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """How to print a result."""

    text = "text"
    json = "json"


class AskedNumerics(StrEnum):
    """In which numbers a packed checkpoint runs."""

    w4a16 = "w4a16"
    w4a4 = "w4a4"


class EngineName(StrEnum):
    """Engines whose loader can be asked."""

    vllm = "vllm"


class AskedDepth(StrEnum):
    """How far an engine is asked."""

    headers = "headers"
    bytes = "bytes"
    answers = "answers"


class ReportFormat(StrEnum):
    """How to print a judgement."""

    text = "text"
    json = "json"
    html = "html"


Source = Annotated[Path, typer.Argument(metavar="SRC", help="BF16 checkpoint directory")]
Recipe = Annotated[str, typer.Option("--recipe", help="recipe name; `q3omni plan` lists them")]
Device = Annotated[str, typer.Option("--device", help="where calibration runs: cpu or cuda")]
Output = Annotated[Format, typer.Option("--format", help="what to print")]
Out = Annotated[Path | None, typer.Option("--out", help="write what would be printed to a file")]
ReportFile = Annotated[
    Path | None, typer.Option("--report", help="write a report, too: a page to read, or FILE.json for machines")
]
