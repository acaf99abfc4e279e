"""Quantized twins in the cache: made once per source, recipe and code, by one process, and never half visible."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

_SMALL = 64 * 2**20  # weights up to here are hashed; of larger ones name, size and time must do: 66 GB take minutes
_NOT_CODE = ("plugin", "conformance", "report", "parity", "assertions", "cli")  # they do not change what is packed


def cache_directory(chosen: Path | None) -> Path:
    """The chosen directory, else the user's cache directory for this package."""
    if chosen is not None:
        return chosen
    from platformdirs import user_cache_path

    return user_cache_path("pytest-q3omni", appauthor=False)


def quantized_twin(
    source: Path,
    recipe: str,
    cache: Path,
    *,
    record: Path | None = None,
    conversations: Path | None = None,
    say: Callable[[str], object],
) -> Path:
    """`source` quantized with `recipe`: from the cache, or made there now.

    Other processes that want the same twin wait on a file lock. It is there whole or not at all, and a killed run is
    resumed by the next: `api.quantize` sees to both. `say` is told when one is made.

    Raises:
        Q3OmniError: whatever stops `api.quantize`; Unwritable, where the cache cannot be written.
    """
    home = cache / "checkpoints"
    twin = home / f"{source.name or 'checkpoint'}-{recipe}-{_key(source, recipe, record, conversations)[:16]}"
    if twin.is_dir():
        return twin
    from pytest_q3omni import api
    from pytest_q3omni.plugin.locks import locked

    with locked(twin.with_name(f"{twin.name}.lock")):
        if not twin.is_dir():
            say(f"q3omni: quantizing {source} with {recipe} into {twin} (once)")
            api.quantize(source, twin, recipe=recipe, record=record, conversations=conversations)
    return twin


def _key(source: Path, recipe: str, record: Path | None, conversations: Path | None) -> str:
    from pytest_q3omni.omni.checkpoint import open_checkpoint

    checkpoint, samples = open_checkpoint(source), "" if conversations is None else _samples(conversations)
    key = hashlib.sha256("\0".join((checkpoint.fingerprint(), recipe, samples)).encode())
    whole = sum(file.stat().st_size for file in checkpoint.files) <= _SMALL
    for file in checkpoint.files:
        state = file.stat()
        key.update(file.read_bytes() if whole else f"{file.name}\0{state.st_size}\0{state.st_mtime_ns}".encode())
    inputs = [] if record is None else sorted(file for file in record.iterdir() if file.is_file())
    for file in (*inputs, *_code()):
        key.update(file.read_bytes())
    return key.hexdigest()


def _samples(conversations: Path) -> str:
    """The digest of what a model is calibrated on, the media that the file names included."""
    from pytest_q3omni.omni.conversations import digest, load_conversations

    return digest(load_conversations(conversations))


def _code() -> list[Path]:
    """The sources that decide what a twin holds: an editable install changes without a new version number."""
    package = Path(__file__).parents[1]
    files = (file for file in package.rglob("*.py") if file.relative_to(package).parts[0] not in _NOT_CODE)
    return sorted(files)
