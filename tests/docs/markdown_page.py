"""A Markdown page as a session: its code blocks are typed in order, and what they print is compared with what is shown.

The rules, which docs/README.md tells readers, too:

- ```` ```console ````: lines that begin with `$ ` are typed into one bash per page (lines that begin with `> ` go on);
  the lines below are what it prints, standard error included. Without such lines the output is not looked at. A command
  must exit with 0 unless the next one is `echo $?`.
- ```` ```python ````: runs, all of a page in one namespace; where the next block is ```` ```text ````, it is what the
  program prints.
- a block after a paragraph that ends in "save this as `NAME`:" is written to that file.
- `...` stands for any text within a line; alone on its line for any lines. Runs of spaces are one space.
- `<!-- not run: REASON -->` before a block: neither typed nor written, but counted.
- json, jsonl and toml are parsed; other text is only text. Any other language has to be marked as not run.
"""

from __future__ import annotations

import difflib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

_FENCE = re.compile(r"(?P<indent>\s*)(?P<ticks>`{3,})(?P<language>\w*)[^`]*")
_NOT_RUN = re.compile(r"<!-- not run: (?P<reason>.+) -->")
_WIDE = re.compile(r"[ ━─]{2,}")
_SAVE = re.compile(r"[Ss]ave this as `(?P<name>[\w./-]+)`:$")
_END = "@@q3omni-docs"
_PATIENCE = 120  # seconds, after which a command hangs


@dataclass(frozen=True)
class Block:
    """One fenced block. line: of its fence. file: what it is saved as. not_run: the reason; "" where it runs."""

    line: int
    language: str
    text: str
    file: str = ""
    not_run: str = ""


@dataclass(frozen=True)
class Step:
    """One command of a console block, and what the page shows below it."""

    line: int
    command: str
    shown: str


@dataclass
class DemoRun:
    """One run of the demo that pages share. folder: where what it made is kept; answer: what it printed, its status."""

    folder: Path
    command: str = "q3omni demo"
    answer: tuple[str, int] | None = None


class PageError(AssertionError):
    """The page shows something else than what happens; the message names page and line."""


def blocks(text: str) -> list[Block]:
    """All fenced blocks of a page, in order."""
    found: list[Block] = []
    numbered = iter(enumerate(text.splitlines(), start=1))
    before, reason, follows = "", "", False
    for number, line in numbered:
        fence = _FENCE.fullmatch(line)
        if fence:
            if fence["indent"]:
                raise PageError(f"line {number}: an indented block would not be run. Fix: move it to the margin")
            saved = _SAVE.search(before)
            content = "".join(f"{inner}\n" for inner in _until(numbered, fence["ticks"]))
            found.append(Block(number, fence["language"], content, saved["name"] if saved else "", reason))
            before, reason = "", ""
        elif mark := _NOT_RUN.fullmatch(line.strip()):
            reason = mark["reason"]
        elif line.strip():
            before, reason = f"{before if follows else ''} {line.strip()}", ""
        follows = bool(line.strip())  # a paragraph goes on until an empty line
    return found


def _until(numbered: Iterator[tuple[int, str]], ticks: str) -> Iterator[str]:
    for _, line in numbered:
        if line == ticks:
            return
        yield line
    raise PageError("a fenced block is not closed")


def steps(block: Block) -> list[Step]:
    """The commands of a console block."""
    found: list[Step] = []
    for number, line in enumerate(block.text.splitlines(), start=block.line + 1):
        if line.startswith("$ "):
            found.append(Step(number, line.removeprefix("$ "), ""))
        elif not found:
            raise PageError(f"line {number}: a console block begins with a command, `$ ...`")
        elif line.startswith("> ") and not found[-1].shown:
            found[-1] = Step(found[-1].line, f"{found[-1].command}\n{line.removeprefix('> ')}", "")
        else:
            found[-1] = Step(found[-1].line, found[-1].command, f"{found[-1].shown}{line}\n")
    return found


def matches(shown: str, printed: str) -> bool:
    """Whether `printed` is what `shown` says, `...` standing for anything, whatever the width of a table's columns."""
    lines = _tidy(shown).splitlines()
    parts = [r"(?:.*\n)*?" if line == "..." else f"{_line(line)}\n" for line in lines]
    return re.fullmatch("".join(parts), _tidy(printed)) is not None


def _line(line: str) -> str:
    return ".*".join(map(re.escape, line.split("...")))


def _tidy(text: str) -> str:
    lines = (_WIDE.sub(lambda run: run[0][0], line.rstrip()) for line in text.strip("\n").splitlines())
    return "".join(f"{line}\n" for line in lines)


class Session:
    """Types a page's blocks in the folder `home`."""

    def __init__(self, page: str, home: Path, demo: DemoRun | None = None) -> None:
        self._page, self._home, self._demo = page, home, demo
        self._names: dict[str, object] = {"__name__": "__docs__"}

    def run(self, text: str) -> int:
        """Run every block that is not marked; the number of commands, programs and files.

        Raises:
            PageError: output, exit status or syntax is not what the page says.
        """
        done, printed = 0, None
        with _Bash(self._home) as bash:
            for block in blocks(text):
                if block.not_run:
                    continue
                before, printed = printed, None
                if block.file:
                    (self._home / block.file).write_text(block.text, encoding="utf-8")
                    done += 1
                elif block.language == "console":
                    done += self._type(bash, steps(block))
                elif block.language == "python":
                    printed = self._execute(block)
                    done += 1
                else:
                    self._look(block, before)
        return done

    def _type(self, bash: _Bash, typed: list[Step]) -> int:
        for step, following in zip(typed, [*typed[1:], None], strict=True):
            printed, status = self._answer(bash, step.command)
            if step.shown and not matches(step.shown, printed):
                self._refuse(step.line, f"`{step.command}` prints something else", step.shown, printed)
            if status and (following is None or following.command != "echo $?"):
                self._refuse(step.line, f"`{step.command}` exits with {status}", step.shown, printed)
        return len(typed)

    def _answer(self, bash: _Bash, command: str) -> tuple[str, int]:
        """Type the command; the demo only once for all pages, since it runs the model on sixty conversations."""
        if self._demo is None or command != self._demo.command:
            return bash.type(command)
        made = self._home / self._demo.folder.name
        if self._demo.answer is None:
            self._demo.answer = bash.type(command)
            shutil.copytree(made, self._demo.folder)
        else:
            shutil.copytree(self._demo.folder, made)
        return self._demo.answer

    def _execute(self, block: Block) -> str:
        output = io.StringIO()
        code = compile("\n" * block.line + block.text, self._page, "exec")  # so that tracebacks name the page's line
        with redirect_stdout(output):
            exec(code, self._names)
        return output.getvalue()

    def _look(self, block: Block, printed: str | None) -> None:
        """A block that is no program: output of the one before it, or data that has to be well-formed."""
        if block.language == "text":
            if printed is not None and not matches(block.text, printed):
                self._refuse(block.line, "the program above prints something else", block.text, printed)
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "jsonl":
            for line in block.text.splitlines():
                json.loads(line)
        elif block.language == "toml":
            tomllib.loads(block.text)
        else:
            wanted = "console, python, json, jsonl, toml or text, or `<!-- not run: REASON -->` before it"
            raise PageError(
                f"{self._page}:{block.line}: a block in {block.language or 'no language'}; expected {wanted}"
            )

    def _refuse(self, line: int, what: str, shown: str, printed: str) -> None:
        difference = difflib.unified_diff(
            shown.splitlines(), _tidy(printed).splitlines(), "shown", "printed", lineterm="", n=1
        )
        fix = "correct the page; write `...` for what may vary"
        raise PageError("\n".join([f"{self._page}:{line}: {what}. Fix: {fix}", *difference]))


class _Bash:
    """One shell for a page, as a reader has; this Python's scripts come first in its PATH."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def __enter__(self) -> _Bash:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV", "Q3OMNI"))}
        path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
        environment = kept | {
            "PATH": path,
            "COLUMNS": "80",
            "LC_ALL": "C.UTF-8",
            "XDG_CACHE_HOME": f"{self._home}/.cache",
        }
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"], cwd=self._home, env=environment, text=True, encoding="utf-8",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return self

    def __exit__(self, *failure: object) -> None:
        self._process.kill()
        self._process.communicate()

    def type(self, command: str) -> tuple[str, int]:
        """What a command prints, and its exit status, which `$?` keeps for the next one.

        Raises:
            PageError: it hangs, or it ends the shell.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        watch = Timer(_PATIENCE, self._process.kill)
        watch.start()
        self._process.stdin.write(f"{command}\n__status=$?; printf '\\n%s %s\\n' {_END} $__status; (exit $__status)\n")
        self._process.stdin.flush()
        printed = []
        for line in self._process.stdout:
            if line.startswith(f"{_END} "):
                watch.cancel()
                return "".join(printed).removesuffix("\n"), int(line.split()[1])
            printed.append(line)
        watch.cancel()
        raise PageError(f"`{command}` hangs or ends the shell, after printing:\n{''.join(printed)}")
