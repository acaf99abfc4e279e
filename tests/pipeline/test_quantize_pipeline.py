"""The composed verb: what is refused, what survives a kill, and a user's own data outside the repository."""

import json
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pytest_q3omni import api
from pytest_q3omni.errors import Incomplete, Inconsistent, InvalidRequest, NonFiniteAmax, Q3OmniError, Unreadable
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


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing can be written into shards meanwhile."""

    def full(descriptor: int, content: object, offset: int) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        yield


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

    with full_disk(monkeypatch), pytest.raises(Q3OmniError, match="No space left"):
        api.quantize(TINY, tmp_path / "out", recipe="nvfp4-default", conversations=file)
    assert not (tmp_path / "out").exists()

    def forbidden(*arguments: object, **options: object) -> None:
        raise AssertionError("calibrated twice")

    from pytest_q3omni.calibrate import observe

    monkeypatch.setattr(observe, "run_calibration", forbidden)
    made = api.quantize(TINY, tmp_path / "out", recipe="nvfp4-default", conversations=file)
    assert made.record is not None
    leftovers(tmp_path, "data", "out")


def other_picture(source: Path, data: Path) -> None:
    (data / "tone.wav").unlink()
    write_wav(data / "tone.wav", 0.9 * np.sin(np.arange(24_000) * 0.3), rate=24_000)


def other_words(source: Path, data: Path) -> None:
    file = data / "samples.jsonl"
    file.write_text(file.read_text().replace("hello there", "good day"))


def other_weights(source: Path, data: Path) -> None:
    os.utime(source / "model.safetensors", ns=(0, 0))


def other_template(source: Path, data: Path) -> None:
    file = source / "chat_template.json"
    file.write_text(file.read_text() + "\n")


@pytest.mark.parametrize("change", [other_picture, other_words, other_weights, other_template])
def test_a_kept_calibration_is_not_taken_up_after_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: object
) -> None:
    """The disk is full, the user repairs something else as well: the next run calibrates anew."""
    needs_torch()
    source, data = tmp_path / "source", tmp_path / "data"
    shutil.copytree(TINY, source)
    data.mkdir()
    file = user_data(data)

    with full_disk(monkeypatch), pytest.raises(Q3OmniError, match="No space left"):
        api.quantize(source, tmp_path / "out", recipe="nvfp4-default", conversations=file)
    change(source, data)
    from pytest_q3omni.calibrate import observe

    real, calls = observe.run_calibration, []
    monkeypatch.setattr(observe, "run_calibration", lambda *a, **o: calls.append(1) or real(*a, **o))
    api.quantize(source, tmp_path / "out", recipe="nvfp4-default", conversations=file)
    assert calls
    leftovers(tmp_path, "data", "out", "source")


def test_refusals_come_before_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours of calibration must not end in a sentence that could have been said at once."""
    needs_torch()
    data = tmp_path / "data"
    data.mkdir()
    file = user_data(data)
    from pytest_q3omni.calibrate import observe

    def forbidden(*arguments: object, **options: object) -> None:
        raise AssertionError("calibrated before the refusal")

    monkeypatch.setattr(observe, "run_calibration", forbidden)
    (tmp_path / "file").write_text("in the way")
    usual = {"recipe": "nvfp4-default", "conversations": file}
    for text, out, options in (
        ("Not a directory", tmp_path / "file" / "out", usual),
        ("memory limit", tmp_path / "out", {**usual, "max_memory": "1MiB"}),
        ("tpu", tmp_path / "out", {**usual, "device": "tpu"}),
        ("nowhere", tmp_path / "out", {"recipe": "bf16", "conversations": tmp_path / "nowhere.jsonl"}),
        ("nowhere", tmp_path / "out", {"recipe": "bf16", "record": tmp_path / "nowhere"}),
    ):
        with pytest.raises(Q3OmniError, match=text):
            api.quantize(TINY, out, **options)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    with pytest.raises(Q3OmniError, match="MB free"):
        api.quantize(TINY, tmp_path / "out", **usual)
    leftovers(tmp_path, "data", "file")


def test_the_control_is_no_failure(tmp_path: Path) -> None:
    """bf16 packs nothing, and that is what was asked for; `verify` on its own still says that nothing is packed."""
    made = api.quantize(TINY, tmp_path / "out", recipe="bf16")
    assert not made.judgement.failed
    assert made.judgement.verdict("packed").state == "not checked"
    assert made.judgement.verdict("faithful").state == "pass"
    assert api.verify(tmp_path / "out").verdict("packed").state == "fail"


def test_a_record_of_a_fine_tune_is_refused(tmp_path: Path) -> None:
    """Same config, same headers, other weights."""
    source = tmp_path / "tuned"
    shutil.copytree(TINY, source)
    from pytest_q3omni.omni.checkpoint import open_checkpoint

    entry = open_checkpoint(source).entries["thinker.model.layers.0.input_layernorm.weight"]
    with (source / "model.safetensors").open("r+b") as stream:
        stream.seek(entry.begin)
        stream.write(b"\x80\x40" * entry.info.shape[0])
    with pytest.raises(Inconsistent, match="its weights differ from the record's"):
        api.quantize(source, tmp_path / "out", recipe="nvfp4-default", record=record_path())


def test_a_record_that_lacks_an_input_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    from pytest_q3omni.calibrate.record import save_record

    seen = api.load_record(record_path())
    some = dict(list(seen.input_amax.items())[1:])
    save_record(replace(seen, input_amax=some), tmp_path / "record")
    with pytest.raises(NonFiniteAmax, match="no input amax in the calibration record"):
        api.quantize(TINY, tmp_path / "out", recipe="nvfp4-default", record=tmp_path / "record")
    leftovers(tmp_path, "record")


def test_half_a_source_is_refused(tmp_path: Path) -> None:
    """A shard that was not downloaded, without an index to tell."""
    from pytest_q3omni.omni.checkpoint import open_checkpoint
    from pytest_q3omni.omni.safetensors_file import layout

    source = tmp_path / "source"
    shutil.copytree(TINY, source)
    whole = open_checkpoint(TINY)
    kept = [tensor for tensor in whole.tensors if ".layers.1." not in tensor.name]
    made = layout(kept)
    data = b"".join(whole.read(tensor.name).tobytes() for tensor in made.tensors)
    (source / "model.safetensors").write_bytes(made.header + data)
    with pytest.raises(Incomplete, match=r"tensors are missing, the first: .*layers\.1\."):
        api.quantize(source, tmp_path / "out", recipe="nvfp4-mlp-weight-only")
    leftovers(tmp_path, "source")


def test_a_name_with_wildcards_touches_nobody_elses_calibration(tmp_path: Path) -> None:
    other = tmp_path / ".ab.q3omni-record-0123"
    other.mkdir()
    for name in ("a?", "a[b]", "*"):
        api.quantize(TINY, tmp_path / name, recipe="nvfp4-mlp-weight-only")
    assert other.is_dir()


def test_a_checkpoint_is_a_place_for_a_record(tmp_path: Path) -> None:
    """`--record OUT` of an earlier run means the record within it."""
    api.quantize(TINY, tmp_path / "first", recipe="nvfp4-default", record=record_path())
    made = api.quantize(TINY, tmp_path / "second", recipe="nvfp4-default", record=tmp_path / "first")
    assert made.record == api.load_record(record_path())
    assert (tmp_path / "second" / "q3omni" / "record.safetensors").exists()


def test_a_damaged_record_in_a_checkpoint_fails_calibrated_alone(tmp_path: Path) -> None:
    api.quantize(TINY, tmp_path / "out", recipe="nvfp4-default", record=record_path())
    file = tmp_path / "out" / "q3omni" / "record.safetensors"
    file.write_bytes(file.read_bytes() + b"?")
    judgement = api.verify(tmp_path / "out", source=TINY)
    states = [judgement.verdict(name).state for name in ("packed", "consistent", "faithful", "calibrated")]
    assert states == ["pass", "pass", "pass", "fail"]
    with pytest.raises(Inconsistent, match="sha256"):
        api.verify(tmp_path / "out", record=tmp_path / "out" / "q3omni")


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
        assert "MB free; expected 3.4 MB for the shards" in done.stderr
        assert not (disk / "out").exists()
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done
    finally:
        subprocess.run(["umount", disk], check=True)
