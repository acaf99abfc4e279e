"""Where a checkpoint's bytes come from: files on this machine, or (`omni/hub.py`) ranges of files on a hub."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pytest_q3omni.errors import CheckpointError, Inconsistent, Unreadable
from pytest_q3omni.omni.safetensors_file import Entry, read_header
from pytest_q3omni.omni.untrusted_files import check_inside, open_regular

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Header = Mapping[str, Entry] | CheckpointError
"""What a file's header says, or what is wrong with it."""


class Span(NamedTuple):
    """Bytes `begin` to `end` of a file; `tensor` is the first one in them, for messages."""

    file: Path
    begin: int
    end: int
    tensor: str


class Storage(Protocol):
    """What a checkpoint is read through.

    holds_weights: False where only headers, scales and other small tensors can be had. budget: bytes of block scales
    that may be read, infinite where nobody counts. span_bytes: the most to read at once.
    """

    holds_weights: bool
    budget: float
    span_bytes: int

    def names(self, directory: Path) -> list[str]:
        """The names of all files in the directory, sorted."""

    def fault(self, file: Path) -> CheckpointError | None:
        """Why a weight file cannot be opened, None where it can."""

    def headers(self, files: Sequence[Path]) -> Iterator[Header]:
        """The headers of weight files, in their order."""

    def permits(self, span: Span) -> bool:
        """True where the span may be read: always, where the weights are held."""

    def read(self, span: Span, target: NDArray[np.uint8]) -> None:
        """Fill `target` with the bytes of a span."""

    def spans(self, spans: Iterable[Span]) -> Iterator[NDArray[np.uint8]]:
        """The bytes of each span; a view that the next one may overwrite."""

    def prefetch(self, spans: Iterable[Span]) -> None:
        """Get spans that will be read one by one, where that takes time."""


class LocalFiles:
    """Files on this machine, read (never mapped: mapped pages count as resident memory)."""

    holds_weights = True
    budget = math.inf
    span_bytes = 8 << 20

    def names(self, directory: Path) -> list[str]:
        return sorted(os.listdir(directory))  # noqa: PTH208  # names alone: links are not followed

    def fault(self, file: Path) -> CheckpointError | None:
        """Links may not leave the checkpoint."""
        try:
            check_inside(file)
        except Inconsistent as error:
            return error
        if not _exists(file):
            fix = f"copy {file.name} into the checkpoint, or write the index again"
            link = os.path.islink(file)  # noqa: PTH114  # false where a name is too long; Path.is_symlink raises
            found = "a link to nowhere" if link else "named by the index, does not exist"
            return Unreadable(found, where=str(file), fix=fix)
        if not file.is_file():  # reading a pipe waits for ever
            return Unreadable("not a regular file", where=str(file), fix=f"copy {file.name} into the checkpoint")
        return None

    def headers(self, files: Sequence[Path]) -> Iterator[Header]:
        for file in files:
            try:
                yield read_header(file)
            except CheckpointError as error:
                yield error

    def permits(self, span: Span) -> bool:  # noqa: ARG002
        return True

    def read(self, span: Span, target: NDArray[np.uint8]) -> None:
        with open_regular(span.file) as stream:
            _fill(stream, span, target)

    def spans(self, spans: Iterable[Span]) -> Iterator[NDArray[np.uint8]]:
        import numpy as np

        buffer = np.empty(0, np.uint8)
        for span in spans:
            size = span.end - span.begin
            if size > len(buffer):
                buffer = np.empty(max(size, self.span_bytes), np.uint8)
            self.read(span, buffer[:size])
            yield buffer[:size]

    def prefetch(self, spans: Iterable[Span]) -> None:
        """Nothing: a file is at hand."""


LOCAL = LocalFiles()


def _fill(stream: Any, span: Span, target: NDArray[np.uint8]) -> None:
    stream.seek(span.begin)
    done = 0
    while done < len(target):
        count = stream.readinto(target.data[done:])
        if not count:
            raise Unreadable("ends too early", where=f"{span.file}:{span.tensor}", fix="copy the file again")
        done += count


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except (OSError, ValueError):  # a name too long
        return False
