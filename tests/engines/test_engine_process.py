"""A foreign engine's process: how it answers, all the ways in which it may end, and that nothing of it stays."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from worker_script import begin, loop

from pytest_q3omni.engines import engine_process
from pytest_q3omni.engines.engine_process import EngineProcess, environment, how_it_ended, last_words
from pytest_q3omni.errors import EngineError

pytestmark = pytest.mark.tiny

LONG = 60.0
"""Seconds that no answer here takes; what ends sooner was noticed, not waited for."""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], EngineProcess]]:
    started: list[EngineProcess] = []

    def run(body: str) -> EngineProcess:
        started.append(begin(tmp_path, body))
        return started[-1]

    yield run
    for process in started:
        process.close()


def failure(process: EngineProcess, seconds: float = LONG, **request: object) -> EngineError:
    """The error of a request, which says where, what and how to fix it, and survives the way between processes."""
    with pytest.raises(EngineError) as caught:
        process.ask({"do": "work", **request}, seconds)
    error = caught.value
    assert (error.where, error.expected) == ("an engine", "an answer")
    assert error.found
    assert error.fix
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301  # our own
    return error


def gone(pid: int) -> bool:
    """True where there is no such process, or one that is dead and not yet collected by its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def wait_for(pid: int) -> None:
    while not gone(pid):
        os.sched_yield()


def test_it_answers_again_and_again(start: Callable[[str], EngineProcess]) -> None:
    process = start(loop("it['value'] * 2"))
    assert [process.ask({"do": "work", "value": value}, LONG) for value in (1, "ab", [None], "ü\n")] == [
        2, "abab", [None, None], "ü\nü\n",
    ]  # fmt: skip
    assert not process.closed


def test_an_answer_may_be_false_or_nothing(start: Callable[[str], EngineProcess]) -> None:
    process = start(loop("it['value']"))
    assert [process.ask({"do": "work", "value": value}, LONG) for value in (0, None, "", [])] == [0, None, "", []]


def test_an_answer_larger_than_a_pipe_arrives_whole(start: Callable[[str], EngineProcess]) -> None:
    process = start(loop("it['piece'] * 100_000"))
    assert process.ask({"do": "work", "piece": "abcdefgh"}, LONG) == "abcdefgh" * 100_000


def test_a_request_larger_than_a_pipe_arrives_whole(start: Callable[[str], EngineProcess]) -> None:
    process = start(loop("len(it['piece'])"))
    assert process.ask({"do": "work", "piece": "x" * 1_000_000}, LONG) == 1_000_000


def test_an_error_that_it_reports_is_told_and_it_goes_on(start: Callable[[str], EngineProcess]) -> None:
    said = "print('WARNING no kernel', flush=True)\n"
    body = 'asked()\nos.write(writing, b\'{"error": "ValueError: no such layer"}\\n\')\n' + loop("5")
    process = start(said + body)
    error = failure(process)
    assert error.found == "`work` failed: ValueError: no such layer. Its last lines: WARNING no kernel"
    assert process.ask({"do": "work"}, LONG) == 5


@pytest.mark.parametrize(
    ("body", "how"),
    [
        ("asked(); sys.exit(3)", "ended with code 3 during `work`"),
        ("asked(); os._exit(0)", "ended with code 0 during `work`"),
        ("sys.exit('ImportError: no kernel')", "ended with code 1 during `work`. Its last lines: ImportError: no"),
        ("asked(); os.kill(os.getpid(), 9)", "was ended by signal 9 (Killed); signal 9 is often a lack of memory"),
        ("asked(); os.kill(os.getpid(), 11)", "was ended by signal 11 (Segmentation fault) during `work`"),
        ("asked(); os.write(writing, b'{\"answer\": '); sys.exit(4)", "ended with code 4 during `work`"),
    ],
)  # fmt: skip
def test_a_death_is_told_with_how_it_came(start: Callable[[str], EngineProcess], body: str, how: str) -> None:
    process = start(body)
    error = failure(process)
    assert error.found.startswith(how)
    assert "q3omni doctor" in error.fix
    assert process.closed


def test_an_answer_written_just_before_death_still_counts(start: Callable[[str], EngineProcess]) -> None:
    process = start("asked(); answer(7); os._exit(3)")
    assert process.ask({"do": "work"}, LONG) == 7
    assert "ended with code 3" in failure(process).found


def test_a_child_that_holds_the_pipe_open_does_not_hide_a_death(
    start: Callable[[str], EngineProcess], tmp_path: Path
) -> None:
    child = "code = 'import time; time.sleep(1000)'\n"
    child += "one = subprocess.Popen([sys.executable, '-c', code], pass_fds=(reading, writing))\n"
    child += f"print(one.pid, file=open({str(tmp_path / 'child')!r}, 'w'), flush=True)\n"
    process = start(child + "asked(); os._exit(5)")
    assert failure(process).found.startswith("ended with code 5")
    wait_for(int((tmp_path / "child").read_text()))  # it was ended, too, or this waits for ever


def test_a_pipe_that_it_closes_while_it_lives_on(
    start: Callable[[str], EngineProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_process, "_GRACE_SECONDS", 0.1)
    process = start("asked(); os.close(writing); sleep_for_ever()")
    assert failure(process).found.startswith("closed its pipe during `work`")
    assert process.closed


@pytest.mark.parametrize(
    "line",
    [b"hello", b"", b"[1, 2]", b"null", b"17", b'{"answer": 1', b"\xff\xfe", b"[" * 100_000, b'"answer"', b"{} {}"],
    ids=["a word", "nothing", "list", "null", "number", "half", "no text", "deep", "text", "two"],
)
def test_nonsense_is_told_and_the_process_is_ended(start: Callable[[str], EngineProcess], line: bytes) -> None:
    process = start(f"asked()\nos.write(writing, {line!r} + b'\\n')\nsleep_for_ever()")
    error = failure(process)
    assert error.found.startswith(f"answered `work` with something else than JSON: {line[:80]!r}")
    assert "interpreter" in error.fix
    assert process.closed


def test_no_answer_in_time(start: Callable[[str], EngineProcess]) -> None:
    process = start("print('compiling', flush=True); asked(); sleep_for_ever()")
    error = failure(process, seconds=1.5)
    assert error.found.startswith("no answer to `work` within 1.5 s. Its last lines: ")
    assert process.closed


def test_an_answer_without_an_end_of_line(start: Callable[[str], EngineProcess]) -> None:
    process = start("asked(); os.write(writing, b'{\"answer\": 1}'); sleep_for_ever()")
    assert "no answer to `work` within 0.5 s" in failure(process, seconds=0.5).found


def test_an_answer_that_trickles_does_not_put_the_end_off(start: Callable[[str], EngineProcess]) -> None:
    process = start("asked()\nwhile True:\n    os.write(writing, b' '); time.sleep(0.05)")
    assert "no answer to `work` within 0.5 s" in failure(process, seconds=0.5).found


def test_too_much_of_an_answer(start: Callable[[str], EngineProcess], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_process, "MOST_BYTES", 100_000)
    process = start("asked()\nwhile True:\n    os.write(writing, b'x' * 60_000)")
    error = failure(process)
    assert error.found == "an answer of more than 100,000 bytes"
    assert process.closed
    within = start(loop("'x' * 90_000"))
    assert len(within.ask({"do": "work"}, LONG)) == 90_000


def test_a_request_that_nobody_reads(start: Callable[[str], EngineProcess]) -> None:
    process = start("sleep_for_ever()")
    assert "no answer to `work`" in failure(process, seconds=0.5, piece="x" * 1_000_000).found


def test_a_request_to_one_that_dies_without_reading(start: Callable[[str], EngineProcess]) -> None:
    process = start("time.sleep(0.2); os._exit(6)")
    assert failure(process, piece="x" * 1_000_000).found.startswith("ended with code 6")


def test_what_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"an engine: cannot be started .*No such file"):
        EngineProcess("an engine", [str(tmp_path / "absent")], tmp_path, {})
    before = descriptors()
    with pytest.raises(EngineError, match="cannot be started"):
        EngineProcess("an engine", [sys.executable], tmp_path / "absent", {})
    assert descriptors() == before, "its pipes are closed"


def test_asking_one_that_has_ended_is_an_error_of_its_own(start: Callable[[str], EngineProcess]) -> None:
    process = start(loop("1"))
    process.close()
    assert failure(process).found == "has ended, and was asked to `work`"


def test_after_an_interruption_no_stale_answer_is_given(
    start: Callable[[str], EngineProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test that its time limit ends leaves an answer on its way: the next request must not get it."""
    process = start(loop("it['value']"))

    def interrupted(deadline: float) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(process, "_line", interrupted)
        with pytest.raises(KeyboardInterrupt):
            process.ask({"do": "work", "value": 1}, LONG)
    assert process.closed
    failure(process, value=2)


def test_close_ends_it_and_its_children(start: Callable[[str], EngineProcess]) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"
    child = f"one = subprocess.Popen([sys.executable, '-c', {code!r}])\n"
    process = start(child + loop("[os.getpid(), one.pid]"))
    pids = process.ask({"do": "work"}, LONG)
    assert not any(map(gone, pids))
    process.close()
    for pid in pids:
        wait_for(pid)
    assert process.closed


def test_close_again_ends_nobody_else(start: Callable[[str], EngineProcess], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number may be another process's by then."""
    process = start(loop("1"))
    process.close()
    monkeypatch.setattr(os, "killpg", lambda *_: pytest.fail("killed a group twice"))
    process.close()


def test_descriptors_are_given_back(start: Callable[[str], EngineProcess]) -> None:
    before = descriptors()
    start(loop("1")).close()
    failure(start("sys.exit(3)"))
    assert descriptors() == before


def test_how_it_ended() -> None:
    assert how_it_ended(0) == "ended with code 0"
    assert "memory" in how_it_ended(-signal.SIGKILL)
    assert how_it_ended(-signal.SIGTERM) == "was ended by signal 15 (Terminated)"


CAUSE = "(EngineCore_0 pid=7) subprocess.CalledProcessError: Command '['ninja', '-v']' returned non-zero exit status 1."


def written(tmp_path: Path, *lines: str) -> str:
    (tmp_path / "log.txt").write_text("\n".join(lines), encoding="utf-8")
    return last_words(tmp_path / "log.txt")


def test_the_last_lines_come_after_the_cause_far_above(tmp_path: Path) -> None:
    between = [f"(EngineCore_0 pid=7)   File line {number}" for number in range(200)]
    last = [f"last {number}" for number in range(6)]
    said = written(tmp_path, "before", CAUSE, *between, *last)
    assert said == " / ".join([CAUSE, *last])


def test_long_last_lines_do_not_push_the_cause_out(tmp_path: Path) -> None:
    said = written(tmp_path, CAUSE, *(f"{number} " + "x" * 5000 for number in range(10)), "the end")
    assert said.startswith(CAUSE)
    assert said.endswith("the end")
    assert len(said) < 3000


def test_the_last_three_causes_are_told_each_once(tmp_path: Path) -> None:
    causes = ["AError: 1", "BError: 2", "BError: 2", "torch.OutOfMemoryError: CUDA out of memory", "Killed"]
    said = written(tmp_path, *causes, *(f"line {number}" for number in range(6)))
    assert said.split(" / ")[:3] == ["BError: 2", "torch.OutOfMemoryError: CUDA out of memory", "Killed"]


def test_lines_that_only_mention_errors_are_no_cause(tmp_path: Path) -> None:
    said = written(tmp_path, "INFO 0 errors", "ErrorHandler ready", *(f"line {number}" for number in range(6)))
    assert said == " / ".join(f"line {number}" for number in range(6))


@pytest.mark.parametrize("content", [None, b"", b"\n \n\n"])
def test_a_log_that_says_nothing(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "log.txt").write_bytes(content)
    assert last_words(tmp_path / "log.txt") == "nothing"


def test_colours_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_bytes(b"\x1b[0;36m(EngineCore pid=7)\x1b[0;0m RuntimeError: \xff\r\nend\x1b[2J\n")
    assert last_words(tmp_path / "log.txt") == "(EngineCore pid=7) RuntimeError: \ufffd / end"


def test_of_a_huge_log_only_the_end_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_process, "_TAIL_BYTES", 100)
    assert CAUSE not in written(tmp_path, CAUSE, *(f"line {number}" for number in range(100)))


@pytest.mark.parametrize("own", [True, False])
def test_only_our_own_interpreter_gets_what_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "/ours")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    given = environment(Path(sys.executable) if own else tmp_path / "python")
    assert given["CUDA_VISIBLE_DEVICES"] == "1"
    assert [name in given for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")] == [own] * 3


def test_a_worker_ends_with_its_children_when_the_asker_is_gone(tmp_path: Path) -> None:
    """A killed CI job cannot close its engine: the engine sees the pipe hung up, also while it is busy."""
    script = (
        "import subprocess, sys, time\n"
        "from pytest_q3omni.engines.vllm_inside.surroundings import end_with_asker\n"
        "end_with_asker(int(sys.argv[1]))\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    reading, writing = os.pipe()
    worker = subprocess.Popen(
        [sys.executable, "-c", script, str(reading)], pass_fds=(reading,), stdout=subprocess.PIPE,
        start_new_session=True, text=True,
    )  # fmt: skip
    os.close(reading)
    try:
        assert worker.stdout is not None
        child = int(worker.stdout.readline())
        assert worker.poll() is None, "it lives as long as the pipe does"
        os.close(writing)
        assert worker.wait(60) == -signal.SIGKILL
        wait_for(child)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


def test_a_worker_in_the_group_of_another_leaves_that_group_alone(tmp_path: Path) -> None:
    """Started by hand or by a debugger it leads no group: the shell that it shares one with must outlive it."""
    done = tmp_path / "done"
    worker = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from pytest_q3omni.engines.vllm_inside.surroundings import end_with_asker\n"
        "end_with_asker(int(sys.argv[1]))\n"
        "time.sleep(1)\n"
        f"Path({str(done)!r}).touch()\n"
    )
    leader = (
        "import os, subprocess, sys\n"
        "reading, writing = os.pipe()\n"
        f"worker = subprocess.Popen([sys.executable, '-c', {worker!r}, str(reading)], pass_fds=(reading,))\n"
        "os.close(reading)\n"
        "os.close(writing)\n"
        "sys.exit(worker.wait())\n"
    )
    assert subprocess.run([sys.executable, "-c", leader], start_new_session=True, timeout=60).returncode == 0
    assert done.exists()
