"""A stranger's files end in a judgement or in an error of ours, whatever is in them. `long_run.py` goes on for longer.

The command line is asked a few of them, since it costs half a second each time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile_property import holds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import Pick, damaged_copy, exchange_kind, files_of, mutated_file
from sound_checkpoints import Sound

from pytest_q3omni.errors import CheckpointError
from pytest_q3omni.omni.safetensors_file import read_header

pytestmark = [
    pytest.mark.tiny,
    pytest.mark.skipif(
        not hasattr(os, "mkfifo"), reason="puts pipes and sockets into checkpoints; this system has none"
    ),
]

FUZZED = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.data_too_large, HealthCheck.too_slow],
)


def picks(data: st.DataObject) -> Pick:
    """Choices that hypothesis makes, and makes smaller."""
    return lambda below: data.draw(st.integers(0, below - 1))


@pytest.mark.parametrize("base", ["qwen3-moe", "sharded", "ct-mixed"])
@settings(FUZZED, max_examples=20)
@given(data=st.data())
def test_any_files_of_a_checkpoint(base: str, data: st.DataObject, sound: Sound, tmp_path: Path) -> None:
    damaged_copy(sound(base), tmp_path / "damaged", files_of(sound(base)), picks(data))
    holds(tmp_path / "damaged", source=sound.original(base))


@settings(FUZZED, max_examples=20)
@given(data=st.data())
def test_config_and_weights_together(data: st.DataObject, sound: Sound, tmp_path: Path) -> None:
    names = ["config.json", "model.safetensors"]
    damaged_copy(sound("qwen3-moe"), tmp_path / "damaged", names, picks(data))
    holds(tmp_path / "damaged")


@settings(FUZZED, max_examples=20)
@given(data=st.data())
def test_the_record(data: st.DataObject, sound: Sound, tmp_path: Path) -> None:
    names = ["q3omni/record.json", "q3omni/record.safetensors"]
    damaged_copy(sound("nvfp4-default"), tmp_path / "damaged", names, picks(data))
    holds(tmp_path / "damaged")
    holds(sound("nvfp4-default"), record=tmp_path / "damaged" / "q3omni")


@settings(FUZZED, max_examples=20)
@given(data=st.data())
def test_the_source(data: st.DataObject, sound: Sound, tmp_path: Path) -> None:
    original = sound.original("qwen3-moe")
    damaged_copy(original, tmp_path / "damaged", files_of(original), picks(data))
    holds(sound("qwen3-moe"), source=tmp_path / "damaged")


@settings(FUZZED, max_examples=150)
@given(data=st.data())
def test_the_header_reader(data: st.DataObject, sound: Sound, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(mutated_file((sound("nvfp4-default") / "q3omni" / "record.safetensors").read_bytes(), picks(data)))
    try:
        entries = read_header(file)
    except CheckpointError:
        return
    size = file.stat().st_size
    assert all(0 <= entry.begin <= entry.end <= size for entry in entries.values())


@pytest.mark.parametrize("base", ["sharded", "ct-mixed"])
def test_reading_may_fail_at_any_file(base: str, sound: Sound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network file system: one file cannot be opened, whoever asks; each of those that are read in turn."""
    from pytest_q3omni.omni import untrusted_files

    opened: dict[tuple[int, int], None] = {}
    failing: tuple[int, int] | None = None

    def fails(descriptor: int) -> object:
        status = os.fstat(descriptor)
        file = status.st_dev, status.st_ino
        opened[file] = None
        if file == failing:
            raise OSError(5, "Input/output error")
        return real(descriptor)

    real = untrusted_files.FileIO
    monkeypatch.setattr(untrusted_files, "FileIO", fails)
    judged = holds(sound(base), source=sound.original(base))
    assert judged is not None
    assert len(opened) > 12
    for failing in list(opened):
        judgement = holds(sound(base), source=sound.original(base))
        assert judgement is None or set(judgement.findings) - set(judged.findings), failing


# --- the command line


def _pipe(place: Path) -> None:
    (place / "config.json").unlink()
    os.mkfifo(place / "config.json")


def _escapes(place: Path) -> None:
    config = json.loads((place / "config.json").read_text())
    config["quantization_config"]["ignore"] += ["\x1b[31m[/bold]\r\n\u202e\ud800"]
    (place / "config.json").write_text(json.dumps(config))


def _unreadable_name(place: Path) -> None:
    (place / "config.json").write_text(json.dumps({"model_type": "\x1b]0;title\x07\ud800" + "x" * 100_000}))


def _names_on_disk(place: Path) -> None:
    (Path(os.fsdecode(os.fsencode(place) + b"/\xff\n\x1b[2J.safetensors"))).write_bytes(b"no header")
    (place / "line\nbreak.bin").write_bytes(b"")


def _broken(place: Path) -> None:
    (place / "config.json").write_text("[" * 100_000)


def _no_directory(place: Path) -> None:
    place.rename(place.with_name("moved"))
    place.write_text("")


HOSTILE: dict[str, tuple[Callable[[Path], None], int]] = {
    "pipe": (_pipe, 2),
    "escapes": (_escapes, 0),
    "model-type": (_unreadable_name, 1),
    "names-on-disk": (_names_on_disk, 1),
    "nesting": (_broken, 2),
    "a-file": (_no_directory, 2),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("form", ["text", "json"])
def test_the_command_line(kind: str, form: str, sound: Sound, tmp_path: Path) -> None:
    change, code = HOSTILE[kind]
    place = sound.copy("qwen3-moe" if kind == "escapes" else "nvfp4-default", tmp_path / "damaged")
    change(place)
    done = _verify(place, "--format", form)
    assert done.returncode == code, done.stderr
    if code == 2:
        assert done.stderr.count("\n") == 1
        assert len(done.stderr) < 3000
        assert done.stdout == ""
    elif form == "json":
        assert json.loads(done.stdout)["schema"] == 1


@pytest.mark.parametrize("option", ["--source", "--record"])
def test_the_command_lines_options(option: str, sound: Sound, tmp_path: Path) -> None:
    base = "nvfp4-default"
    place = sound.copy(base, tmp_path / "other") / ("q3omni" if option == "--record" else "")
    for name in ("config.json", "record.json"):
        if (place / name).exists():
            exchange_kind(place / name, lambda below: 1 % below)
    done = _verify(sound(base), option, str(place))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def _verify(*arguments: object) -> subprocess.CompletedProcess[str]:
    run = subprocess.run(
        [Path(sys.executable).with_name("q3omni"), "verify", *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert "Traceback" not in run.stderr
    printed = run.stdout + run.stderr
    assert all(char.isprintable() or char == "\n" for char in printed), printed
    return run
