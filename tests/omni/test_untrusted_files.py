"""Files of a stranger are opened only where they are files, in the checkpoint, of sane size."""

import os
import socket
from pathlib import Path

import pytest

from pytest_q3omni.errors import Inconsistent, Unreadable
from pytest_q3omni.omni.config import read_json
from pytest_q3omni.omni.untrusted_files import check_inside, inside, open_regular, read_at_most

pytestmark = pytest.mark.tiny


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A checkpoint's directory, with a file of somebody else's beside it."""
    (tmp_path / "secret").write_text("{}")
    (tmp_path / "checkpoint").mkdir()
    return tmp_path / "checkpoint"


def test_a_file_is_read(place: Path) -> None:
    (place / "file").write_bytes(b"12345")
    assert read_at_most(place / "file", 5) == b"12345"
    assert read_at_most(place / "file", 4) is None
    with open_regular(place / "file") as stream:
        assert stream.read() == b"12345"


def test_an_empty_file_is_read(place: Path) -> None:
    (place / "file").write_bytes(b"")
    assert read_at_most(place / "file", 0) == b""


def test_what_comes_counts_and_not_the_size_that_is_told(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """A file that grows while it is read, or one of /proc, which has size 0."""
    (place / "file").write_bytes(b"x" * 100)
    real = os.fstat

    def empty(descriptor: int) -> os.stat_result:
        told = list(real(descriptor))
        told[6] = 0
        return os.stat_result(told)

    monkeypatch.setattr("pytest_q3omni.omni.untrusted_files.os.fstat", empty)
    assert read_at_most(place / "file", 99) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes; this system has none")
def test_a_pipe_is_not_waited_for(place: Path) -> None:
    os.mkfifo(place / "pipe")
    with pytest.raises(OSError, match="no file"):
        open_regular(place / "pipe")
    with pytest.raises(Unreadable, match="no file"):
        read_json(place / "pipe")


@pytest.mark.skipif(not Path("/dev/zero").is_char_device(), reason="needs /dev/zero; this system has none")
def test_a_device_never_ends(place: Path) -> None:
    with pytest.raises(OSError, match="no file"):
        read_at_most(Path("/dev/zero"), 10)


def test_a_directory_is_no_file(place: Path) -> None:
    with pytest.raises(IsADirectoryError):
        open_regular(place)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs sockets in the file system")
def test_a_socket_is_no_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)  # a socket's path may have 100 characters
    with socket.socket(socket.AF_UNIX) as end:
        end.bind("socket")
        with pytest.raises(OSError, match=r"."):
            open_regular(place / "socket")


def test_links_stay_in_the_directory(place: Path) -> None:
    (place / "file").write_text("{}")
    (place / "good").symlink_to("file")
    (place / "bad").symlink_to("../secret")
    (place / "circle").symlink_to("circle")
    assert inside(place / "good")
    assert inside(place / "file")
    assert not inside(place / "bad")
    assert not inside(place / "circle")
    assert not inside(place / "\x00")
    with pytest.raises(Inconsistent, match="leaves the checkpoint's directory"):
        check_inside(place / "bad")
    with pytest.raises(Inconsistent, match="leaves the checkpoint's directory"):
        read_json(place / "bad")


def test_a_folder_of_a_snapshot_links_into_the_blobs(tmp_path: Path) -> None:
    """In the hub cache the record of a checkpoint is `snapshots/REV/q3omni/record.json -> ../../../blobs/HASH`."""
    repository = tmp_path / "models--owner--name"
    (repository / "blobs").mkdir(parents=True)
    (repository / "blobs" / "hash").write_text("{}")
    own = repository / "snapshots" / "rev" / "q3omni"
    own.mkdir(parents=True)
    (own / "record.json").symlink_to("../../../blobs/hash")
    (own.parent / "config.json").symlink_to("../../blobs/hash")
    (own / "other").symlink_to("../../../../secret")
    assert inside(own / "record.json")
    assert inside(own.parent / "config.json")
    assert not inside(own / "other")


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [' + "{}," * 4_000_001 + "{}]}",
        '{"' + "a" * 2001 + '": 1}',
        '{"a' + "b" * 1500 + '": {"' + "c" * 600 + '": {}}}',
    ],
    ids=["values", "name", "place"],
)
def test_names_and_values_have_an_end(text: str, place: Path) -> None:
    (place / "config.json").write_text(text)
    with pytest.raises(Unreadable, match=r"values|names"):
        read_json(place / "config.json")
