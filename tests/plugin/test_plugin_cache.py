"""A twin in the cache is found again only for the same source, recipe, record, conversations and code."""

import json
import os
import shutil

import pytest

from pytest_q3omni.errors import Unreadable, Unwritable
from pytest_q3omni.omni.tiny import record_path
from pytest_q3omni.plugin import twins
from pytest_q3omni.plugin.locks import locked
from pytest_q3omni.plugin.twins import cache_directory, quantized_twin

pytestmark = pytest.mark.tiny

RECIPE = "nvfp4-mlp-weight-only"


@pytest.fixture
def source(original_checkpoint, tmp_path):
    shutil.copytree(original_checkpoint, tmp_path / "mine")
    return tmp_path / "mine"


def key(source, recipe=RECIPE, record=None, conversations=None):
    return twins._key(source, recipe, record, conversations)


def talk(file, text="What?"):
    parts = [{"type": "image", "image": "cat.png"}, {"type": "text", "text": text}]
    file.write_text(json.dumps({"messages": [{"role": "user", "content": parts}]}))
    return file


@pytest.fixture
def lines(tmp_path):
    (tmp_path / "cat.png").write_bytes(b"a cat")
    return talk(tmp_path / "mine.jsonl")


def test_the_key_says_what_a_twin_is_made_of(source, lines):
    keys = [key(source), key(source, "bf16"), key(source, record=record_path()), key(source, conversations=lines)]
    keys.append(key(source, conversations=talk(lines, "Who?")))
    (lines.parent / "cat.png").write_bytes(b"a dog")
    keys.append(key(source, conversations=lines))
    assert len(set(keys)) == len(keys)
    assert key(source) == keys[0]


def test_another_place_of_the_same_media_is_the_same_twin(source, lines, tmp_path):
    before = key(source, conversations=lines)
    (tmp_path / "moved").mkdir()
    for name in ("cat.png", "mine.jsonl"):
        shutil.move(tmp_path / name, tmp_path / "moved" / name)
    assert key(source, conversations=tmp_path / "moved" / "mine.jsonl") == before


def test_a_media_file_that_is_missing_is_named(source, lines, tmp_path):
    (tmp_path / "cat.png").unlink()
    with pytest.raises(Unreadable, match=r"mine\.jsonl:1: no such file: .*cat\.png"):
        key(source, conversations=lines)


def test_a_session_computes_the_key_once(pytester, tiny_cache):
    pytester.makeconftest(
        "from pytest_q3omni.plugin import twins\noriginal = twins._key\n"
        "def counted(*arguments):\n    print('asked for a key')\n    return original(*arguments)\n"
        "twins._key = counted"
    )
    pytester.makepyfile(
        "import pytest\n@pytest.mark.parametrize('n', range(3))\ndef test_a(quantized_checkpoint, n):\n"
        "    assert quantized_checkpoint.is_dir()"
    )
    result = pytester.runpytest_subprocess("-s", "-p", "no:cacheprovider", tiny_cache)
    result.assert_outcomes(passed=3)
    assert result.stdout.str().count("asked for a key") == 1


def test_a_twin_deleted_during_a_session_is_made_again(pytester):
    pytester.makepyfile(
        "import pytest, shutil\n@pytest.mark.parametrize('n', range(2))\ndef test_a(quantized_checkpoint, n):\n"
        "    assert quantized_checkpoint.is_dir()\n    shutil.rmtree(quantized_checkpoint)"
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--q3omni-cache=cache")
    result.assert_outcomes(passed=2)
    assert result.stdout.str().count("q3omni: quantizing") == 2


def test_another_weight_is_another_source(source):
    before, file = key(source), source / "model.safetensors"
    state = file.stat()
    with file.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x01")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert key(source) != before


def test_large_weights_are_told_apart_by_size_and_time(source, monkeypatch):
    monkeypatch.setattr(twins, "_SMALL", 0)
    before, file = key(source), source / "model.safetensors"
    assert key(source) == before
    os.utime(file, ns=(1, 1))
    assert key(source) != before


def test_the_code_that_packs_is_part_of_the_key(source, monkeypatch, tmp_path):
    names = {"/".join(file.parts[-2:]) for file in twins._code()}
    assert {"nvfp4/codec.py", "pack/stream.py", "derive/weights.py", "layouts/modelopt.py"} <= names
    assert not {"plugin/twins.py", "cli/verbs.py"} & names
    before = key(source)
    (tmp_path / "more.py").write_text("changed")
    monkeypatch.setattr(twins, "_code", lambda: [tmp_path / "more.py"])
    assert key(source) != before


def test_a_twin_is_a_checkpoint_made_once(source, tmp_path):
    said = []
    made = quantized_twin(source, RECIPE, tmp_path / "cache", say=said.append)
    again = quantized_twin(source, RECIPE, tmp_path / "cache", say=said.append)
    assert made == again
    assert made.parent == tmp_path / "cache" / "checkpoints"
    assert (made / "q3omni" / "plan.json").is_file()
    assert said == [f"q3omni: quantizing {source} with {RECIPE} into {made} (once)"]


@pytest.mark.parametrize(
    ("error", "found"),
    [(OSError(37, "No locks available"), "No locks available"), (NotImplementedError("no flock"), "no flock")],
)
def test_a_file_system_without_locks_is_our_error(tmp_path, monkeypatch, error, found):
    def refuse(self):
        raise error

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    expected = rf"{found}; expected a directory that can be written\. Fix: .*--q3omni-cache"
    with pytest.raises(Unwritable, match=expected), locked(tmp_path / "some.lock"):
        pytest.fail("locked")


def test_without_an_option_the_cache_is_the_users(tmp_path):
    assert cache_directory(tmp_path) == tmp_path
    assert cache_directory(None).name == "pytest-q3omni"
