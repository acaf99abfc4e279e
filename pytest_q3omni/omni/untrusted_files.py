"""Opening the files of a checkpoint that comes from anyone: regular files alone, within the checkpoint, of sane size.

A named pipe keeps a reader waiting for ever, a device never ends, and a link can lead to a file whose contents are
nobody's business. So every file is opened here, whatever its name: weights, config, tokenizer, record.
"""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO
from pathlib import Path

from pytest_q3omni.errors import Inconsistent

# A pipe is not waited for, and a terminal does not become ours. Windows has neither flag, and translates line ends.
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))


def open_regular(file: Path) -> FileIO:
    """The file, unbuffered; the kind is asked of what was opened, so nobody can exchange it in between.

    Raises:
        OSError: it cannot be opened, or it is a directory, a pipe, a device or a socket.
    """
    descriptor = os.open(file, _FLAGS)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "a pipe, a device or a socket, and no file", str(file))
        return FileIO(descriptor)
    except OSError:
        os.close(descriptor)
        raise


def read_at_most(file: Path, limit: int) -> bytes | None:
    """The whole file; None where it is longer than `limit` bytes, of which no more than that are read.

    Raises:
        OSError: as `open_regular`; or reading fails.
    """
    parts, left = [], limit
    with open_regular(file) as stream:
        if os.fstat(stream.fileno()).st_size > limit:
            return None
        while part := stream.read(min(left + 1, 1 << 20)):  # size is what was said, not what comes
            left -= len(part)
            if left < 0:
                return None
            parts.append(part)
    return b"".join(parts)


def inside(file: Path) -> bool:
    """True where `file` resolves into its own directory or, in the hub cache's layout, into that repository's blobs.

    The layout is `snapshots/REVISION/file -> ../../blobs/HASH`; a folder of the snapshot may hold the link, too.
    """
    try:
        target, home = file.resolve(), file.parent.resolve()
    except (OSError, ValueError, RuntimeError):  # a name that no file system takes, links in a circle
        return False
    if target.is_relative_to(home):
        return True
    snapshot = next((place for place in (home, home.parent) if place.parent.name == "snapshots"), None)
    return snapshot is not None and target.is_relative_to(snapshot.parent.parent / "blobs")


def check_inside(file: Path) -> None:
    """Refuse a link that leaves the checkpoint.

    Raises:
        Inconsistent: it does.
    """
    if not inside(file):
        raise Inconsistent(
            "leaves the checkpoint's directory",
            where=str(file),
            expected="a file in the checkpoint, or in its repository's blobs in the hub cache",
            fix="replace the link by the file; a checkpoint must not reach outside itself",
        )
