"""Parts of files on a hub over HTTP: through huggingface_hub's session, with its token and endpoint, and distrustful.

No answer is read before its status, range and size are the ones asked for, and none beyond what was asked for. A token
goes to the endpoint alone: where that redirects to a store, the client drops it, and the store's address is remembered,
which halves the requests.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pytest_q3omni.errors import InvalidRequest, Q3OmniError, Unreachable
from pytest_q3omni.records import Traffic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_AGAIN = (408, 429, 500, 502, 503, 504)
_LONGEST_WAIT = 60.0  # seconds; a server that asks for more is not waited for
_SLOWEST = 20_000  # bytes per second, after a minute of grace: less would keep a caller for hours
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_DOWNLOAD = "download the checkpoint, and judge its directory"
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_Result = TypeVar("_Result")


class Part(NamedTuple):
    """Bytes `begin` to `end` of the file at `url`; `size`: of all of it, None if not known. `where` is for messages."""

    url: str
    begin: int
    end: int
    size: int | None
    where: str


class _Again(Exception):
    """An attempt that failed and may succeed later; `wait` is what the server asks for, in seconds."""

    def __init__(self, found: str, wait: float = 0.0) -> None:
        super().__init__(found)
        self.found, self.wait = found, wait


@dataclass
class Line:
    """A line to one hub. Safe to use from several threads; counts the bytes of all bodies, and all requests.

    attempts: how often a request is tried. pause: seconds before the second attempt, doubled before each further one.
    timeout: seconds without a byte, None for huggingface_hub's (HF_HUB_DOWNLOAD_TIMEOUT).
    """

    attempts: int = 5
    pause: float = 0.5
    timeout: float | None = None
    _bytes: int = 0
    _requests: int = 0
    _headers: dict[bool, dict[str, str]] = field(default_factory=dict)
    _stores: dict[str, str] = field(default_factory=dict)
    _lock: Any = field(default_factory=threading.Lock)

    @property
    def traffic(self) -> Traffic:
        """What came through so far."""
        return Traffic(self._bytes, self._requests)

    def whole(self, url: str, *, at_most: int, where: str) -> bytes:
        """A small file.

        Raises:
            Unreachable, InvalidRequest: it cannot be had; or it is longer than `at_most` bytes.
        """

        def attempt() -> bytes:
            with self._opened(url, {}) as response:
                _check_status(response, 200, where)
                body = bytearray()
                for chunk in self._chunks(response, at_most):
                    body += chunk
                    if len(body) > at_most:
                        raise Unreachable(
                            "longer than listed", where=where, expected=f"{at_most:,} bytes", fix=_DOWNLOAD
                        )
                return bytes(body)

        return self._tried(attempt, where)

    def part(self, part: Part, target: NDArray[np.uint8]) -> int:
        """Fill `target` with a part of a file; returns the file's size. What came of a broken answer is kept.

        Raises:
            Unreachable, InvalidRequest: it cannot be had; or the server sends something else.
        """
        done = 0
        view = target.data

        def attempt() -> int:
            nonlocal done
            begin = part.begin + done
            with self._located(part.url, {"Range": f"bytes={begin}-{part.end - 1}"}) as response:
                _check_status(response, 206, part.where)
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    encoding = response.headers["Content-Encoding"]
                    raise _lie(part.where, f"a body encoded as {encoding:.40}", "the bytes themselves")
                size = _check_range(response, part, begin)
                if response.history and response.url.netloc != response.history[0].url.netloc:
                    self._stores[part.url] = str(response.url)
                for chunk in self._chunks(response, part.end - begin):
                    if len(chunk) > len(view) - done:
                        raise _lie(part.where, "more bytes than were asked for", f"{len(view):,} bytes")
                    view[done : done + len(chunk)] = chunk
                    done += len(chunk)
            if done < len(view):
                raise _Again(f"the answer ends after {done:,} of {len(view):,} bytes")
            return size

        return self._tried(attempt, part.where)

    @contextmanager
    def _located(self, url: str, headers: dict[str, str]) -> Iterator[Any]:
        """The answer of the store that the hub named before, or, where its signature expired, of the hub again."""
        store = self._stores.get(url)
        if store is not None:
            with self._opened(store, headers, token=False) as response:
                if response.status_code < 400 or response.status_code in _AGAIN:
                    yield response
                    return
            self._stores.pop(url, None)
        with self._opened(url, headers) as response:
            yield response

    @contextmanager
    def _opened(self, url: str, headers: dict[str, str], token: bool = True) -> Iterator[Any]:
        """The answer to a GET, its body not read yet."""
        from huggingface_hub import constants
        from huggingface_hub.utils import build_hf_headers, get_session  # type: ignore[attr-defined]  # lazy names

        if token not in self._headers:
            own = build_hf_headers(token=None if token else False, library_name="pytest-q3omni")
            self._headers[token] = {**own, "Accept-Encoding": "identity"}
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT if self.timeout is None else self.timeout
        every = {**self._headers[token], **headers}
        with get_session().stream("GET", url, headers=every, timeout=timeout, follow_redirects=True) as response:
            with self._lock:
                self._requests += 1 + len(response.history)
            yield response

    def _chunks(self, response: Any, size: int) -> Iterator[bytes]:
        """The body, its bytes counted as they are sent; ends an answer that drips."""
        deadline, seen = time.monotonic() + 60 + size / _SLOWEST, 0
        for chunk in response.iter_bytes():
            with self._lock:
                self._bytes += response.num_bytes_downloaded - seen
            seen = response.num_bytes_downloaded
            if time.monotonic() > deadline:
                raise _Again(f"fewer than {_SLOWEST:,} bytes per second")
            yield chunk

    def _tried(self, attempt: Callable[[], _Result], where: str) -> _Result:
        """The result of the first attempt that succeeds."""
        found, wait = "", self.pause
        for number in range(1, self.attempts + 1):
            try:
                return self._mapped(attempt, where)
            except _Again as again:
                found = again.found
                if number < self.attempts:
                    time.sleep(min(max(wait, again.wait), _LONGEST_WAIT))
                    wait *= 2
        tries = f" ({self.attempts} times)" if self.attempts > 1 else ""
        raise Unreachable(f"{found}{tries}", where=where, fix=f"try again later, or {_DOWNLOAD}")

    def _mapped(self, attempt: Callable[[], _Result], where: str) -> _Result:
        """One attempt; what the client raises becomes ours."""
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        # HTTPError of httpx, or of httpx2, its successor: as huggingface_hub has it
        client_error: type[Exception] = HfHubHTTPError.__bases__[0]
        try:
            return attempt()
        except (_Again, Q3OmniError):
            raise
        except OfflineModeIsEnabled as error:
            raise offline(where) from error
        except client_error as error:
            text = " ".join(str(error).split()) or type(error).__name__
            raise _Again(f"no answer: {text[:200]}") from error


def offline(where: str) -> Unreachable:
    """What to say where HF_HUB_OFFLINE forbids to ask."""
    fix = "unset HF_HUB_OFFLINE, or download the checkpoint while online"
    return Unreachable("offline mode (HF_HUB_OFFLINE), and its weights are not in the cache", where=where, fix=fix)


def _check_status(response: Any, wanted: int, where: str) -> None:
    status = response.status_code
    if status == wanted:
        return
    if status in _AGAIN:
        asked = response.headers.get("Retry-After", "")
        raise _Again(f"HTTP {status}", float(asked) if asked.isdecimal() else 0.0)
    if status == 200:
        raise Unreachable(
            "the server ignores ranges: it answered with the whole file (HTTP 200), which was not read",
            where=where, expected="HTTP 206, a part", fix=_DOWNLOAD,
        )  # fmt: skip
    raise _refusal(response, where)


def _refusal(response: Any, where: str) -> Q3OmniError:
    """Why a hub says no, by its `X-Error-Code`; a hub hides private repositories behind 401."""
    status, code = response.status_code, response.headers.get("X-Error-Code", "")
    if code == "GatedRepo":
        found, fix = "gated: its owner wants terms accepted", f"accept them on its page, then {_LOG_IN}"
        return Unreachable(f"{found} (HTTP {status})", where=where, fix=fix)
    if code == "RevisionNotFound":
        return InvalidRequest("no such revision", where=where, fix="name a branch, a tag or a commit that it has")
    if code == "RepoNotFound" or status == 401:
        fix = f"check the name; if it is private, {_LOG_IN}"
        return InvalidRequest(f"no such repository, or a private one (HTTP {status})", where=where, fix=fix)
    if status == 403:
        return Unreachable("access refused (HTTP 403)", where=where, fix=f"{_LOG_IN}, with a token that may read it")
    return Unreachable(f"HTTP {status}", where=where, expected="the file", fix=f"check the name, or {_DOWNLOAD}")


def _check_range(response: Any, part: Part, begin: int) -> int:
    """The file's size, if the answer is the part that was asked for."""
    claim = response.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(claim)
    if match is None or (int(match[1]), int(match[2])) != (begin, part.end - 1):
        raise _lie(part.where, f"Content-Range: {claim!r:.80}", f"bytes {begin}-{part.end - 1}/SIZE")
    size = int(match[3])
    if part.size not in (None, size):
        raise _lie(part.where, f"a file of {size:,} bytes", f"{part.size:,} bytes, as listed")
    return size


def _lie(where: str, found: str, expected: str) -> Unreachable:
    return Unreachable(f"the server sends {found}", where=where, expected=expected, fix=_DOWNLOAD)
