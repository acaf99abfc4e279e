"""Addresses of checkpoints on a hub: `hf://owner/name[@revision]`, resolved once, to a commit.

A push meanwhile cannot mix two versions: everything is read from that commit (`omni/hub_files.py`).
"""

from __future__ import annotations

import json
import math
import re
from os import PathLike, fspath
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pytest_q3omni.errors import InvalidRequest, Unreachable
from pytest_q3omni.omni.hub_files import HubFiles
from pytest_q3omni.omni.ranges import Line, offline

SCHEME = "hf://"
SCALE_BYTES = 256 << 20
"""Block scales that are fetched unless all are asked for; the full-size model has 1.8 GB."""

_ADDRESS = re.compile(
    r"hf://(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[^\s@]+))?/?", re.ASCII
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MOST_LISTED = 64_000_000  # bytes of a repository's listing


def is_address(text: str) -> bool:
    """True where a checkpoint is named by an address on a hub."""
    return text.startswith(SCHEME)


def open_hub(
    address: str, *, all_scales: bool = False, line: Line | None = None, endpoint: str | None = None
) -> HubFiles | Path:
    """The checkpoint at `hf://owner/name[@revision]`; offline, its directory in huggingface_hub's cache.

    all_scales: read every block scale, instead of `SCALE_BYTES` of them. endpoint: instead of HF_ENDPOINT's.

    Raises:
        InvalidRequest: no address, no such repository or revision.
        Unreachable: the hub does not answer or refuses; offline, and the weights are not in the cache.
    """
    from huggingface_hub import constants

    match = _ADDRESS.fullmatch(address)
    if match is None:
        fix = "write hf://owner/name, or hf://owner/name@revision for a branch, tag or commit"
        raise InvalidRequest("not the address of a model", where=address, expected="hf://owner/name", fix=fix)
    repository, revision = match["repository"], match["revision"] or constants.DEFAULT_REVISION
    if constants.HF_HUB_OFFLINE:
        return _cached(repository, revision, address)
    line, endpoint = line or Line(), (endpoint or constants.ENDPOINT).rstrip("/")
    url = f"{endpoint}/api/models/{repository}/revision/{quote(revision, safe='')}?blobs=true"
    commit, listing = _listing(line.whole(url, at_most=_MOST_LISTED, where=address), address)
    name = f"{SCHEME}{repository}@{commit}"
    files = HubFiles(name, f"{endpoint}/{repository}/resolve/{commit}", listing, line)
    files.budget = math.inf if all_scales else SCALE_BYTES
    files.fetch_companions()
    return files


def place_of(checkpoint: str | PathLike[str], *, all_scales: bool = False) -> HubFiles | Path:
    """Where a checkpoint lies that a user names: an address on a hub is opened, anything else is a path."""
    if isinstance(checkpoint, HubFiles):
        return checkpoint
    text = fspath(checkpoint)
    if not text.strip():
        raise InvalidRequest("an empty name", expected="a checkpoint's directory, or hf://owner/name", fix="name it")
    return open_hub(text, all_scales=all_scales) if is_address(text) else Path(text)


def _cached(repository: str, revision: str, address: str) -> Path:
    """The snapshot in huggingface_hub's own cache, if it holds weights."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        home = Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        raise offline(address) from error
    if not any(home.glob("*.safetensors")):
        raise offline(address)
    return home


def _listing(body: bytes, address: str) -> tuple[str, dict[str, int | None]]:
    """(commit, file -> size) of a repository, from the hub's answer; sizes that it does not give are None."""
    try:
        answer: Any = json.loads(body)
        commit, files = answer["sha"], answer["siblings"]
        listing = {file["rfilename"]: file.get("size") for file in files}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _no_hub(address) from error
    sizes = all(size is None or (type(size) is int and size >= 0) for size in listing.values())
    names = all(isinstance(name, str) and name.isprintable() for name in listing)
    if not (isinstance(commit, str) and _COMMIT.fullmatch(commit) and sizes and names):
        raise _no_hub(address)
    return commit, listing


def _no_hub(address: str) -> Unreachable:
    fix = "check HF_ENDPOINT"
    return Unreachable("the answer is no listing of a repository", where=address, expected="a hub's", fix=fix)
