"""A hub on this machine: one repository, its API, its files by range, and a store on a port of its own.

Weights are redirected to the store, as hubs do. `modes` makes files misbehave; `log` is what was asked and sent.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

REPOSITORY, COMMIT = "owner/name", "0123456789abcdef0123456789abcdef01234567"
ADDRESS = f"hf://{REPOSITORY}"
PINNED = f"{ADDRESS}@{COMMIT}"
API = "api"
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class Asked(NamedTuple):
    """One request: of the hub or the store, for a file (`API` for the listing), what part, and the body's bytes."""

    server: str
    name: str
    begin: int
    end: int
    authorization: str
    sent: int


@dataclass
class Hub:
    """modes: file -> how it misbehaves (`_misbehave` has them), "once" at the end: the first time only.
    revisions: names of the commit. listed: file -> size, where the listing is to say another than the file has.
    """

    root: Path
    modes: dict[str, str] = field(default_factory=dict)
    listed: dict[str, int | None] = field(default_factory=dict)
    revisions: tuple[str, ...] = ("main", COMMIT)
    sizes: bool = True
    slow: float = 1.0
    log: list[Asked] = field(default_factory=list)
    url: str = ""
    store: str = ""
    tries: Counter[str] = field(default_factory=Counter)

    def listing(self) -> bytes:
        files = sorted(file for file in self.root.rglob("*") if file.is_file())
        names = {str(file.relative_to(self.root)): file.stat().st_size for file in files}
        siblings = [
            {"rfilename": name, **({"size": self.listed.get(name, size)} if self.sizes else {})}
            for name, size in {**names, **self.listed}.items()
        ]
        return json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}).encode()

    @property
    def sent(self) -> int:
        return sum(asked.sent for asked in self.log)

    def ranges(self, name: str) -> list[tuple[int, int]]:
        """What was sent of a file."""
        return [(asked.begin, asked.end) for asked in self.log if asked.name == name and asked.sent]


@contextmanager
def serve(root: Path, **changes: object) -> Iterator[Hub]:
    """A hub over a directory, until the block ends."""
    hub = Hub(root, **changes)
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub, role)) for role in ("hub", "store")]
    hub.url, hub.store = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def _handler(hub: Hub, role: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:  # the name is http.server's
            path = unquote(urlsplit(self.path).path)
            try:
                if role == "store":
                    self._file(path.removeprefix("/blobs/"))
                elif path.startswith("/api/models/"):
                    self._api(path)
                elif path.startswith(f"/{REPOSITORY}/resolve/{COMMIT}/"):
                    self._resolve(path.removeprefix(f"/{REPOSITORY}/resolve/{COMMIT}/"))
                else:
                    self.send_error(404)  # huggingface_hub asks once a day for a list of its own
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client had enough

        def _api(self, path: str) -> None:
            repository, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            if self._misbehaves(API, hub.listing(), 200):
                return
            if repository != REPOSITORY:
                self._answer(401, API, code="RepoNotFound")
            elif revision not in hub.revisions:
                self._answer(404, API, code="RevisionNotFound")
            else:
                self._answer(200, API, hub.listing())

        def _resolve(self, name: str) -> None:
            if not name.endswith(".safetensors") or name.startswith("q3omni/"):
                self._file(name)
            elif hub.modes.get(name) == "gated":
                self._answer(403, name, code="GatedRepo")
            else:
                self._answer(302, name, location=f"{hub.store}/blobs/{name}?signature=x")

        def _file(self, name: str) -> None:
            file = hub.root / name
            size = file.stat().st_size if file.is_file() else 0
            match = _RANGE.fullmatch(self.headers.get("Range", ""))
            begin, end = (int(match[1]), min(int(match[2]) + 1, size)) if match else (0, size)
            part = b""
            if file.is_file():
                with file.open("rb") as stream:
                    stream.seek(begin)
                    part = stream.read(max(0, end - begin))
            self.size, self.range = size, (begin, end)
            if self._misbehaves(name, part, 206 if match else 200):
                return
            if not file.is_file():
                self._answer(404, name, code="EntryNotFound")
            elif match and begin >= size:
                self._answer(416, name)
            else:
                self._answer(206 if match else 200, name, part)

        def _misbehaves(self, name: str, part: bytes, status: int) -> bool:
            """True where the file's mode answered."""
            mode, hub_tries = hub.modes.get(name, ""), hub.tries
            hub_tries[name] += 1
            if not mode or (mode.endswith(" once") and hub_tries[name] > 1):
                return False
            kind = mode.removesuffix(" once")
            if kind.isdecimal():
                self._answer(int(kind), name)
            elif kind == "whole":
                self._answer(200, name, (hub.root / name).read_bytes())
            elif kind == "cut":
                self._answer(status, name, part[: len(part) // 2], length=len(part))
                self.close_connection = True
            elif kind == "short":
                self._answer(status, name, part[: len(part) // 2])
            elif kind == "slow":
                time.sleep(hub.slow)
                return False
            elif kind == "other range":
                self._answer(206, name, part, content_range=f"bytes 0-{len(part)}/{self.size}")
            elif kind == "other size":
                begin, end = self.range
                self._answer(206, name, part, content_range=f"bytes {begin}-{end - 1}/{self.size + 1}")
            elif kind == "no range header":
                self._answer(206, name, part, content_range="")
            elif kind == "more":
                self._answer(status, name, part + b"more")
            elif kind == "encoded":
                self._answer(status, name, part, encoding="gzip")
            elif kind == "nonsense":
                self._answer(200, name, b"<html>not a hub</html>")
            else:
                return False
            return True

        def _answer(
            self, status: int, name: str, body: bytes = b"", *, code: str = "", location: str = "", encoding: str = "",
            length: int | None = None, content_range: str | None = None,
        ) -> None:  # fmt: skip
            begin, end = getattr(self, "range", (0, len(body)))
            if status == 206 and content_range is None:
                content_range = f"bytes {begin}-{end - 1}/{self.size}"
            headers = {
                "Content-Length": str(len(body) if length is None else length), "X-Error-Code": code,
                "Location": location, "Content-Encoding": encoding, "Content-Range": content_range or "",
            }  # fmt: skip
            self.send_response(status)
            for key, value in headers.items():
                if value:
                    self.send_header(key, value)
            self.end_headers()
            sent = body if status < 400 else b""
            authorization = self.headers.get("Authorization", "")
            hub.log.append(Asked(role, name, begin, end, authorization, len(sent)))
            self.wfile.write(sent)

    return Handler
