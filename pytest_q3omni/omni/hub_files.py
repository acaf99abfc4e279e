"""The files of one commit on a hub: small ones in a temporary directory, headers and scales by range, weights never.

Everything that the judge asks of files goes through `HubFiles`, which knows from the headers what is a scale, and
refuses the rest before a request is made.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import weakref
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from pytest_q3omni.errors import CheckpointError, Q3OmniError, Unreachable, Unreadable, WeightsNotHeld
from pytest_q3omni.omni.checkpoint import CONFIG, INDEX
from pytest_q3omni.omni.config import MAX_CONFIG_BYTES
from pytest_q3omni.omni.ranges import Line, Part
from pytest_q3omni.omni.safetensors_file import LENGTH_BYTES, MAX_HEADER_BYTES, Entry, header_length, parse_header
from pytest_q3omni.omni.storage import Header, Span
from pytest_q3omni.records import Traffic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COMPANIONS = (
    *(CONFIG, INDEX, "generation_config.json", "hf_quant_config.json", "README.md"),
    *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "added_tokens.json"),
    *("special_tokens_map.json", "chat_template.jinja", "chat_template.json", "preprocessor_config.json"),
    *("processor_config.json", "video_preprocessor_config.json"),
    *(f"q3omni/{name}" for name in ("plan.json", "provenance.json", "record.json", "record.safetensors")),
)
"""The small files that the judge reads."""

_PARALLEL = 8  # requests at once: latency dominates, and a hub limits the rate
_AHEAD = 16  # spans fetched before the first of them was looked at
_MOST_SHARDS = 1_000  # the original of the full-size model has 15
_MOST_REQUESTS = 10_000  # for one question; writers that sort by dtype need some hundred
_WINDOW, _LITTLE = 1 << 16, 256  # bytes fetched at once, where at most this many are asked for
_SMALL = 1 << 20  # bytes of a tensor of one dimension: norms and biases
_SCALE_VALUES = 1 << 16  # of a scale that is not FP8: per row, or alone


class HubFiles:
    """The files of one commit. `directory` holds the small ones as long as this object lives; a path to it is what
    `os.fspath` gives, the address what `str` gives.

    A small file that is longer than any reader takes is there as a hole of its size: what a reader says of it is what
    it would say of the file.
    """

    holds_weights = False
    span_bytes = 2 << 20

    def __init__(self, name: str, url: str, listing: Mapping[str, int | None], line: Line) -> None:
        self._name, self._url, self._listing, self._line = name, url, dict(listing), line
        self.budget = math.inf
        self.directory = Path(tempfile.mkdtemp(prefix="q3omni-"))
        weakref.finalize(self, shutil.rmtree, self.directory, ignore_errors=True)
        self._headers: dict[str, Header] = {}
        self._header_bytes = 0
        self._held: dict[Span, bytes] = {}
        self._windows: dict[tuple[str, int], bytes] = {}
        self._allowed: dict[str, tuple[list[int], list[int]]] = {}

    def __str__(self) -> str:
        return self._name

    def __fspath__(self) -> str:
        return str(self.directory)

    @property
    def traffic(self) -> Traffic:
        """What was fetched so far."""
        return self._line.traffic

    def has_weights(self) -> bool:
        """True where the repository has weight files, or an index of them."""
        return INDEX in self._listing or any(name.endswith(".safetensors") for name in self.names(self.directory))

    @contextmanager
    def naming_errors(self) -> Iterator[None]:
        """Errors name the address instead of the temporary directory."""
        try:
            yield
        except CheckpointError as error:
            raise self.named(error) from error

    def named(self, error: Q3OmniError) -> Q3OmniError:
        """An error that names the address instead of the temporary directory."""
        where = error.where.replace(str(self.directory), self._name)
        return type(error)(error.found, where=where, expected=error.expected, fix=error.fix)

    def fetch_companions(self) -> None:
        """Get the small files, side by side."""
        (self.directory / "q3omni").mkdir()
        with ThreadPoolExecutor(_PARALLEL) as pool:
            list(pool.map(self._companion, (name for name in COMPANIONS if name in self._listing)))

    def _companion(self, name: str) -> None:
        size, file = self._listing[name], self.directory / name
        if size is not None and size > MAX_CONFIG_BYTES:
            with file.open("wb") as stream:
                stream.truncate(size)
            return
        limit = MAX_CONFIG_BYTES if size is None else size
        body = self._line.whole(self._address(name), at_most=limit, where=f"{self._name}/{name}")
        if size is not None and len(body) != size:
            raise Unreachable(
                f"the server sends {len(body):,} bytes", where=f"{self._name}/{name}",
                expected=f"{size:,} bytes, as listed", fix="try again, or download the checkpoint",
            )  # fmt: skip
        file.write_bytes(body)

    def _address(self, name: str) -> str:
        return f"{self._url}/{quote(name)}"

    # --- what a Storage does

    def names(self, directory: Path) -> list[str]:  # noqa: ARG002  # there is one only
        """The files beside config.json, fetched or not."""
        return sorted(name for name in self._listing if "/" not in name)

    def fault(self, file: Path) -> CheckpointError | None:
        if file.name in self._listing:
            return None
        fix = f"upload {file.name}, or write the index again"
        return Unreadable("named by the index, does not exist", where=str(file), fix=fix)

    def headers(self, files: Sequence[Path]) -> Iterator[Header]:
        if len(files) > _MOST_SHARDS:
            raise self._too_much(f"{len(files):,} weight files", f"at most {_MOST_SHARDS:,}")
        with ThreadPoolExecutor(_PARALLEL) as pool:
            yield from pool.map(self._header, files)

    def _header(self, file: Path) -> Header:
        if file.name not in self._headers:
            try:
                entries = self._read_header(file)
            except CheckpointError as error:
                self._headers[file.name] = error
            else:
                self._headers[file.name], self._allowed[file.name] = entries, _intervals(entries)
        return self._headers[file.name]

    def _read_header(self, file: Path) -> dict[str, Entry]:
        """Eight bytes, then exactly the header: a guess at its length would fetch weights."""
        size = self._listing[file.name]
        head = self._bytes(Span(file, 0, LENGTH_BYTES if size is None else min(size, LENGTH_BYTES), ""))
        size = self._listing[file.name] or 0
        length = header_length(file, head, size)
        self._header_bytes += length
        if self._header_bytes > MAX_HEADER_BYTES:
            raise self._too_much(f"{self._header_bytes:,} bytes of headers", f"at most {MAX_HEADER_BYTES:,}")
        return parse_header(file, self._bytes(Span(file, LENGTH_BYTES, LENGTH_BYTES + length, "")), size)

    def permits(self, span: Span) -> bool:
        """True where the span lies in neighbours that are scales, scalars or other small tensors."""
        begins, ends = self._allowed.get(span.file.name, ((), ()))
        number = bisect_right(begins, span.begin) - 1
        return number >= 0 and span.end <= ends[number]

    def read(self, span: Span, target: NDArray[np.uint8]) -> None:
        held = self._held.pop(span, None)
        if held is None:
            self._guard(span)
            held = self._from_window(span)
        if held is None:
            self._fetch(span, target)
        else:
            target.data[:] = held

    def _from_window(self, span: Span) -> bytes | None:
        """A scalar, fetched together with its neighbours, of which the next one is likely to be asked for."""
        begins, ends = self._allowed[span.file.name]
        number = bisect_right(begins, span.begin) - 1
        low = span.begin - (span.begin - begins[number]) % _WINDOW
        high = min(ends[number], low + _WINDOW)
        if span.end - span.begin > _LITTLE or span.end > high:
            return None
        whole = span._replace(begin=low, end=high)
        if (span.file.name, low) not in self._windows:
            self._windows[span.file.name, low] = self._bytes(whole)
        return self._windows[span.file.name, low][span.begin - low : span.end - low]

    def spans(self, spans: Iterable[Span]) -> Iterator[NDArray[np.uint8]]:
        import numpy as np

        asked = list(spans)
        if len(asked) > _MOST_REQUESTS:
            found = f"{len(asked):,} small tensors lie apart, between weights: a request for each"
            raise self._too_much(found, f"at most {_MOST_REQUESTS:,}")
        for span in asked:
            self._guard(span)
        with ThreadPoolExecutor(_PARALLEL) as pool:
            coming: deque[Future[bytes]] = deque()
            try:
                for span in asked:
                    coming.append(pool.submit(self._bytes, span))
                    if len(coming) == _AHEAD:
                        yield np.frombuffer(coming.popleft().result(), np.uint8)
                while coming:
                    yield np.frombuffer(coming.popleft().result(), np.uint8)
            finally:
                for future in coming:
                    future.cancel()

    def prefetch(self, spans: Iterable[Span]) -> None:
        wanted = sorted({span for span in spans if span not in self._held and self.permits(span)})
        groups = list(self._joined(wanted))
        whole = self.spans(Span(group[0].file, group[0].begin, group[-1].end, group[0].tensor) for group in groups)
        for group, data in zip(groups, whole, strict=True):
            for span in group:
                self._held[span] = data[span.begin - group[0].begin : span.end - group[0].begin].tobytes()

    def _joined(self, spans: Iterable[Span]) -> Iterator[list[Span]]:
        """Spans side by side, at most `span_bytes` together."""
        group: list[Span] = []
        for span in spans:
            beside = bool(group) and (span.file, span.begin) == (group[-1].file, group[-1].end)
            if group and not (beside and span.end - group[0].begin <= self.span_bytes):
                yield group
                group = []
            group.append(span)
        if group:
            yield group

    def _guard(self, span: Span) -> None:
        if not self.permits(span):
            raise WeightsNotHeld(
                "weights, which are never fetched", where=f"{self._name}: {span.tensor}", expected="a scale",
                fix="download the checkpoint, and judge its directory",
            )  # fmt: skip

    def _too_much(self, found: str, expected: str) -> Unreachable:
        fix = "download the checkpoint, and judge its directory"
        return Unreachable(found, where=self._name, expected=expected, fix=fix)

    def _bytes(self, span: Span) -> bytes:
        import numpy as np

        target = np.empty(span.end - span.begin, np.uint8)
        self._fetch(span, target)
        return target.tobytes()

    def _fetch(self, span: Span, target: NDArray[np.uint8]) -> None:
        if not len(target):
            return
        name = span.file.name
        where = f"{self._name}/{name}" + (f": {span.tensor}" if span.tensor else "")
        part = Part(self._address(name), span.begin, span.end, self._listing[name], where)
        self._listing[name] = self._line.part(part, target)


def _intervals(entries: Mapping[str, Entry]) -> tuple[list[int], list[int]]:
    """Begins and ends of the stretches of a file that hold nothing but small tensors and scales."""
    begins: list[int] = []
    ends: list[int] = []
    for entry in sorted(filter(_fetchable, entries.values()), key=lambda entry: (entry.begin, entry.end)):
        if ends and ends[-1] == entry.begin:
            ends[-1] = entry.end
        else:
            begins.append(entry.begin)
            ends.append(entry.end)
    return begins, ends


def _fetchable(entry: Entry) -> bool:
    """True for scalars, norms and other tensors of one dimension, and for scales: block scales are FP8."""
    name, dtype, shape = entry.info.name, entry.info.dtype, entry.info.shape
    if len(shape) <= 1:
        return entry.end - entry.begin <= _SMALL
    return "scale" in name.rpartition(".")[2] and (dtype == "F8_E4M3" or math.prod(shape) <= _SCALE_VALUES)
