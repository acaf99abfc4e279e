"""Docstrings and signatures as Markdown: what `generate.py` builds its pages of."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from textwrap import dedent
from typing import Any

COMMAND = "python docs/generate.py"
_NOTE = f"<!-- Written by `{COMMAND}` from the code: change the docstring there, then run it again. -->"


def plain(text: str | None) -> str:
    """A docstring as Markdown: what is indented is fenced, `Raises:` is a list."""
    lines, out = inspect.cleandoc(text or "").splitlines(), []
    while lines:
        line = lines.pop(0)
        indented = []
        while lines and (lines[0].startswith("    ") or (not lines[0] and indented and _more(lines))):
            indented.append(lines.pop(0))
        if not indented:
            out.append(line)
        elif line == "Raises:":
            out += ["Raises:", "", *_list("\n".join(indented))]
        elif line:
            out.append(f"{line} {' '.join(part.strip() for part in indented)}")
        else:
            out += ["", "```text", *dedent("\n".join(indented)).rstrip().splitlines(), "```"]
    return "\n".join(out).strip()


def _more(lines: list[str]) -> bool:
    """Whether an indented block goes on after empty lines."""
    following = next((line for line in lines if line), "")
    return following.startswith("    ")


def _list(text: str) -> list[str]:
    """`Name, Other: when. Third: when.`, with its continuation lines, as list items."""
    joined = " ".join(line.strip() for line in dedent(text).splitlines())
    errors_named = re.split(r"(?:^|(?<=\. ))([A-Z]\w+(?:, [A-Z]\w+)*): ", joined)[1:]
    pairs = zip(errors_named[::2], errors_named[1::2], strict=True)
    return [f"- **{kinds}**: {when.strip()}" for kinds, when in pairs] or [f"- {joined}"]


def with_fields(text: str, names: Sequence[str]) -> str:
    """The text of a docstring where `name: meaning. other: meaning.` of fields or parameters becomes a list."""
    name = rf"(?:{'|'.join(names)})"
    start = re.compile(rf"(?:^|(?<=[.;] )){name}(?:, {name})*(?=: )")
    parts = []
    for paragraph in text.split("\n\n"):
        joined = " ".join(paragraph.splitlines())
        listed = start.sub(lambda found: f"\n- `{found[0]}`", joined)
        parts.append(paragraph if listed == joined else listed.replace(" \n", "\n").strip())
    return "\n\n".join(parts)


def signature(name: str, function: Callable[..., Any]) -> str:
    """The signature over several lines where it is long; private aliases lose their underscore."""
    found, parameters, starred = inspect.signature(function), [], False
    for parameter in found.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parameters.append("*")
            starred = True
        default = "" if parameter.default is parameter.empty else f" = {_default(parameter.default)}"
        parameters.append(f"{parameter.name}: {parameter.annotation}{default}")
    returns = f" -> {found.return_annotation}"
    line = f"{name}({', '.join(parameters)}){returns}"
    if len(line) > 100:
        line = f"{name}(\n" + "".join(f"    {parameter},\n" for parameter in parameters) + f"){returns}"
    return "```python\n" + re.sub(r"\b_(?=[A-Z])", "", line) + "\n```"


def _default(value: object) -> str:
    return str(getattr(value, "__name__", None) or repr(value))


def page(title: str, intro: str, *sections: str) -> str:
    """A whole page, with a remark for who would edit it."""
    return "\n\n".join([f"# {title}", _NOTE, dedent(intro).strip(), *sections]) + "\n"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table; a `|` in a cell is escaped."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
