"""The reader of pages itself: a page that lies must fail."""

import shutil
from pathlib import Path

import pytest
from markdown_page import Block, DemoRun, PageError, Session, Step, blocks, matches, steps

pytestmark = pytest.mark.tiny


def page(*blocks_of_lines: str) -> str:
    return "\n\n".join(blocks_of_lines) + "\n"


def console(*lines: str) -> str:
    return "\n".join(["```console", *lines, "```"])


def test_blocks_know_their_file_and_why_they_are_not_run() -> None:
    text = page(
        "Text, then save this as\n`a/b.json`:",
        '```json\n{"a": 1}\n```',
        "<!-- not run: needs a Thor -->",
        console("$ boil --thor"),
        console("$ true"),
    )
    assert blocks(text) == [
        Block(4, "json", '{"a": 1}\n', "a/b.json"),
        Block(10, "console", "$ boil --thor\n", not_run="needs a Thor"),
        Block(14, "console", "$ true\n"),
    ]


def test_steps_know_what_is_shown_and_how_commands_go_on() -> None:
    block = Block(10, "console", "$ cat <<EOF\n> one\n> EOF\none\n> two\n$ true\n")
    assert steps(block) == [Step(11, "cat <<EOF\none\nEOF", "one\n> two\n"), Step(16, "true", "")]


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("one\ntwo\n", "\none\ntwo  \n\n", True),
        ("one\n", "one\ntwo\n", False),
        ("one\n...\n", "one\n", True),
        ("one\n...\nfour\n", "one\ntwo\nthree\nfour\n", True),
        ("one\n...\nfour\n", "one\ntwo\n", False),
        ("in ...s\n", "in 0.52s\n", True),
        ("in ...s\n", "in\n0.52s\n", False),
        ("a.c\n", "abc\n", False),
        ("anything\n", "", False),
    ],
)
def test_shown_output_is_compared(shown: str, printed: str, same: bool) -> None:
    assert matches(shown, printed) is same


needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")


@needs_bash
def test_a_page_is_one_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = page(
        console("$ mkdir inner", "$ cd inner", "$ name=value"),
        console("$ echo $name; pwd", "value", ".../inner", "$ (exit 3)", "$ echo $?", "3"),
        "Save this as `greet.py`:",
        '```python\nprint("hello")\n```',
        console("$ python ../greet.py", "hello"),
        "```python\nnumber = 2\n```",
        "```python\nprint(number + 1)\n```",
        "```text\n3\n```",
        "<!-- not run: it must not be -->",
        console("$ exit 1"),
    )
    assert Session("page.md", tmp_path).run(text) == 10


@needs_bash
@pytest.mark.parametrize(
    ("text", "told"),
    [
        (console("$ echo one", "two"), r"(?s)page.md:2: `echo one` prints something else.*-two\n\+one"),
        (console("$ false"), "page.md:2: `false` exits with 1"),
        (console("$ false", "$ true"), "page.md:2: `false` exits with 1"),
        (console("$ exit 0"), "`exit 0` hangs or ends the shell"),
        (console("no command"), "begins with a command"),
        ("```python\nprint(1)\n```\n\n```text\n2\n```", "page.md:5: the program above prints something else"),
        ("```python\npass\n```\n\n```text\n2\n```", "page.md:5: the program above prints something else"),
        ("```ruby\nputs 1\n```", "page.md:1: a block in ruby; expected console"),
        ("```\nwhat\n```", "page.md:1: a block in no language"),
        ("- item\n\n  ```console\n  $ true\n  ```", "line 3: an indented block would not be run"),
        ("```console\n$ true", "not closed"),
    ],
)
def test_a_page_that_lies_fails(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(PageError, match=told):
        Session("page.md", tmp_path).run(text)


@needs_bash
@pytest.mark.parametrize("text", ["```json\n{1}\n```", "```jsonl\n{}\n{1}\n```", "```toml\na\n```"])
def test_data_has_to_be_well_formed(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"."):
        Session("page.md", tmp_path).run(text)


@needs_bash
def test_the_demo_runs_once_for_all_pages(tmp_path: Path) -> None:
    command = "mkdir made && echo here > made/file && echo done"
    shared = DemoRun(tmp_path / "kept" / "made", command)
    text = page(console(f"$ {command}", "done", "$ cat made/file", "here"))
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        assert Session(name, tmp_path / name, shared).run(text) == 2
    (tmp_path / "kept" / "made" / "file").write_text("kept\n")
    (tmp_path / "third").mkdir()
    with pytest.raises(PageError, match=r"-here\n\+kept"):
        Session("third", tmp_path / "third", shared).run(text)
