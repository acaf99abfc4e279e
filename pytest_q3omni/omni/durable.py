"""Writing so that a result is either whole or absent: temporary name, sync, rename. For files and for directories."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from pytest_q3omni.errors import InvalidRequest, Unwritable


def check_new_directory(path: Path, what: str) -> None:
    """Return if a finished directory can be renamed to `path`: asked before the work, so that the work is not lost.

    what: its name in the command, such as OUT.

    Raises:
        InvalidRequest: something is there, or a link or mount point, which a rename cannot replace.
        Unwritable: the directory it would lie in cannot be written.
    """
    expected = "a new or empty directory"
    if path.is_symlink():
        raise InvalidRequest("is a symbolic link", where=str(path), expected=expected, fix=f"name {what} itself")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        found = "already holds a checkpoint" if (path / "config.json").exists() else "already holds something else"
        fix = f"choose another {what}, or remove this one yourself"
        raise InvalidRequest(found if path.is_dir() else "is a file", where=str(path), expected=expected, fix=fix)
    if os.path.ismount(path):
        fix = f"name a directory within it: {what} appears by a rename, in one step"
        raise InvalidRequest("is a mount point", where=str(path), expected=expected, fix=fix)
    parent = next(place for place in path.absolute().parents if place.exists())
    try:
        with tempfile.TemporaryFile(dir=parent):
            return
    except OSError as error:
        raise unwritable(error, parent) from error


def unwritable(error: OSError, place: Path) -> Unwritable:
    """The operating system's refusal as one sentence."""
    several = error.args[0] if isinstance(error, shutil.Error) and error.args else None  # copytree collects them
    first = several[0][-1] if isinstance(several, list) and several else error
    return Unwritable(
        error.strerror or str(first),
        where=str(place),
        expected="a writable place with enough space",
        fix="free disk space, or check the path and its permissions, then run the same command again",
    )


def check_new_file(file: Path) -> None:
    """Return if a file can be written whole: asked before the work, so that the work is not lost.

    Raises:
        InvalidRequest: a directory has that name. Unwritable: the directory it would lie in is not there, or not ours.
    """
    if file.is_dir():
        raise InvalidRequest("is a directory", where=str(file), expected="a file", fix="name a file in it")
    if file.exists() and not file.is_file():
        return  # a pipe or a device, which is written into
    try:
        with tempfile.TemporaryFile(dir=file.resolve().parent):
            return
    except OSError as error:
        raise unwritable(error, file) from error


def write_file(file: Path, data: bytes) -> None:
    """Write a file whole: temporary name, sync, rename. A link is followed; a pipe or a device is written into.

    Raises:
        OSError: it cannot be written; `file` is as it was.
    """
    if file.exists() and not file.is_file():
        with file.open("wb") as stream:
            stream.write(data)
        return
    file = file.resolve() if file.is_symlink() else file
    temporary = file.with_name(f".{file.name}.partial")
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)


def publish(stage: Path, path: Path) -> None:
    """Rename the finished directory `stage` to `path`, which is absent or empty, and make the names durable.

    Raises:
        OSError: `path` cannot be replaced; `stage` is as it was.
    """
    sync_directory(stage)
    if path.is_dir():
        path.rmdir()
    stage.rename(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make a directory's names durable; Windows syncs them with the files and opens no directories."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
