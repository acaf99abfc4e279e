"""The composed verb: what is refused, what survives a kill, and a user's own data outside the repository."""

import json
import os
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from pytest_q3omni import api
from pytest_q3omni.errors import InvalidRequest, Q3OmniError, Unreadable
from pytest_q3omni.omni.tiny import checkpoint_path, record_path

pytestmark = pytest.mark.tiny

TINY = checkpoint_path()


def write_wav(file: Path, samples: np.ndarray, rate: int = 16_000) -> None:
    with wave.open(str(file), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes((samples * 32767).astype("<i2").tobytes())


def user_data(home: Path) -> Path:
    """A user's folder: text, a PNG, a WAV of another rate than the processor's, all with paths relative to the file."""
    image = pytest.importorskip("PIL.Image", reason="needs the quantize extra: pip install 'pytest-q3omni[quantize]'")
    colours = np.zeros((64, 64, 3), np.uint8)
    colours[:, 32:] = (255, 0, 0)
    image.fromarray(colours).save(home / "picture.png")
    write_wav(home / "tone.wav", 0.5 * np.sin(np.arange(24_000) * 0.1), rate=24_000)
    look = [{"type": "image", "image": "picture.png"}, {"type": "text", "text": "colours?"}]
    listen = [{"type": "audio", "audio": "tone.wav"}, {"type": "text", "text": "which?"}]
    conversations = [
        [{"role": "user", "content": "hello there, what is ab"}],
        [{"role": "user", "content": look}],
        [{"role": "user", "content": listen}, {"role": "assistant", "content": "x"}],
    ]
    file = home / "samples.jsonl"
    file.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in conversations))
    return file


def needs_torch() -> None:
    pytest.importorskip("torch", reason="needs the quantize extra: pip install 'pytest-q3omni[quantize]'")


def leftovers(home: Path, *expected: str) -> None:
    assert sorted(path.name for path in home.iterdir()) == sorted(expected)


def test_own_conversations_with_png_and_wav(tmp_path: Path) -> None:
    """Three conversations reach every layer; that experts miss a modality is for `calibrated` to say."""
    needs_torch()
    data = tmp_path / "data"
    data.mkdir()
    made = api.quantize(TINY, tmp_path / "out", recipe="nvfp4-default", conversations=user_data(data))
    assert made.record is not None
    assert made.record.samples_total == made.record.samples_passed == 3
    assert dict(made.record.samples) == {"text": 3, "image": 1, "audio": 1}
    states = {verdict.name: verdict.state for verdict in made.judgement.verdicts}
    assert [states[name] for name in ("packed", "consistent", "faithful")] == ["pass"] * 3
    assert api.load_record(tmp_path / "out") == made.record
    leftovers(tmp_path, "data", "out")


def break_png(home: Path) -> None:
    (home / "picture.png").write_bytes((home / "picture.png").read_bytes()[:60])


def break_wav(home: Path) -> None:
    write_wav(home / "tone.wav", np.zeros(0))


def break_path(home: Path) -> None:
    (home / "tone.wav").unlink()


@pytest.mark.parametrize(
    ("damage", "text"), [(break_png, "picture.png"), (break_wav, "tone.wav"), (break_path, "tone.wav")]
)
def test_a_sample_that_fails_stops_everything_and_is_named(tmp_path: Path, damage: object, text: str) -> None:
    needs_torch()
    data = tmp_path / "data"
    data.mkdir()
    file = user_data(data)
    damage(data)
    with pytest.raises(Q3OmniError, match=text):
        api.quantize(TINY, tmp_path / "out", recipe="nvfp4-default", conversations=file)
    leftovers(tmp_path, "data")


def test_a_finished_calibration_survives_a_failed_packing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_torch()
    data = tmp_path / "data"
    data.mkdir()
    file = user_data(data)

    def full(descriptor: int, content: object, offset: int) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(Q3OmniError, match="No space left"):
            api.quantize(TINY, tmp_path / "out", recipe="nvfp4-default", conversations=file)
    assert not (tmp_path / "out").exists()

    def forbidden(*arguments: object, **options: object) -> None:
        raise AssertionError("calibrated twice")

    from pytest_q3omni.calibrate import observe

    monkeypatch.setattr(observe, "run_calibration", forbidden)
    made = api.quantize(TINY, tmp_path / "out", recipe="nvfp4-default", conversations=file)
    assert made.record is not None
    leftovers(tmp_path, "data", "out")


def test_other_conversations_are_calibrated_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept calibration belongs to its conversations."""
    from pytest_q3omni.pipeline import quantize

    plan = api.plan(TINY, ["nvfp4-default"])[0]
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    first.write_text("1")
    second.write_text("2")
    assert quantize._digest(plan, first) != quantize._digest(plan, second)


def test_a_record_gives_the_same_bytes_on_every_run(tmp_path: Path) -> None:
    for name in ("a", "b"):
        api.quantize(TINY, tmp_path / name, recipe="nvfp4-default", record=record_path())
    files = [{file.name: file.read_bytes() for file in (tmp_path / name).glob("*.*")} for name in ("a", "b")]
    for pair in files:
        pair.pop("README.md")  # names itself
    assert files[0] == files[1]


def test_conversations_and_record_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="conversations and a record given"):
        api.quantize(TINY, tmp_path / "out", recipe="nvfp4-default", record=record_path(), conversations="x.jsonl")


def test_a_record_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="nowhere"):
        api.quantize(TINY, tmp_path / "out", recipe="nvfp4-default", record=tmp_path / "nowhere")


def test_a_full_disk_is_one_line_and_the_next_run_finishes(tmp_path: Path) -> None:
    """A real full disk, where this process may mount one; elsewhere the packer's own test stands in for it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("needs root to mount a small tmpfs")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=False).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        script = Path(sys.executable).with_name("q3omni")
        command = [script, "quantize", str(TINY), str(disk / "out"), "--recipe", "nvfp4-mlp-weight-only"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done
        assert done.stderr.count("\n") == 1
        assert "GB free; expected 0.003 GB for the shards" in done.stderr
        assert not (disk / "out").exists()
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done
    finally:
        subprocess.run(["umount", disk], check=True)
