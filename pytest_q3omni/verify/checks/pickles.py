"""No pickles beside the weights: unpickling runs whatever code the file holds.

ModelOpt's evaluation export leaves one beside BF16-sized weights, trainers leave `training_args.bin`, Meta's releases
an `original/consolidated.00.pth`. safetensors needs none of them. They are known by their suffix, or else by their
first bytes, which are looked at and never unpickled, in the directory and in folders two deep. Code of the checkpoint's
own that config.json names (`auto_map`) is a warning: loaders run it with `trust_remote_code`, and these models need
none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from pytest_q3omni.omni.untrusted_files import inside, open_regular
from pytest_q3omni.verify.checks._protocol import CONFIG_JSON, Check, Fault
from pytest_q3omni.verify.subject import Subject

_SUFFIXES = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
_PROTOCOLS = tuple(bytes((0x80, version)) for version in range(2, 6))  # no text and no known format begins so
_START = 256
_MOST_FILES = 20_000


def _find(subject: Subject) -> Iterator[Fault]:
    try:
        names = subject.checkpoint.names()
    except OSError as error:
        yield Fault(
            ".", f"the directory cannot be listed ({error.strerror})", "a readable directory", "check its rights"
        )
        return
    local = subject.checkpoint.holds_weights
    for name in islice(_within(subject.checkpoint.path, names) if local else names, _MOST_FILES):
        by_name = name.lower().endswith(_SUFFIXES)
        try:
            by_bytes = not by_name and local and subject.sound(name) and _pickled(subject.checkpoint.path / name)
        except OSError as error:
            found = f"cannot be opened ({error.strerror or error}), so nobody knows what it is"
            yield Fault(name, found, "a readable file", "check its rights, or delete it", "warning")
            continue
        if by_name or by_bytes:
            yield Fault(
                name,
                f"a pickle (by its {'suffix' if by_name else 'first bytes'}): loading it runs code",
                "weights in *.safetensors only",
                "delete it; convert weights that only it holds on a machine you can lose",
            )
    yield from _code(subject)


def _within(path: Path, names: Iterable[str], depth: int = 2) -> Iterator[str]:
    """The files of a directory and of the folders in it, `depth` deep, by their place. Links to folders, and git's own
    folder, are left alone."""
    for name in names:
        folder = path / name
        if not folder.is_dir() or folder.is_symlink():
            yield name
        elif depth and name != ".git":
            try:
                inner = sorted(os.listdir(folder))  # noqa: PTH208  # names alone
            except OSError:
                continue
            yield from (f"{name}/{file}" for file in _within(folder, inner, depth - 1))


def _pickled(file: Path) -> bool:
    """True where the first bytes are a pickle's, torch's archive of one, or those of a numpy array of objects."""
    if file.suffix == ".safetensors":
        return False  # whose header `container` reads
    if not inside(file):
        return False
    with open_regular(file) as stream:
        start = stream.read(_START) or b""
    objects = start.startswith(b"\x93NUMPY") and b"'descr': '|O'" in start
    return start[:2] in _PROTOCOLS or objects or (start.startswith(b"PK\x03\x04") and b"data.pkl" in start)


def _code(subject: Subject) -> Iterator[Fault]:
    named = subject.checkpoint.config.get("auto_map")
    if named and not subject.unknown_model:
        yield Fault(
            f"{CONFIG_JSON}.auto_map",
            f"{named!r:.80}: with trust_remote_code loading runs that code",
            "no code: transformers and engines have these models",
            "take `auto_map` out, and delete the Python files",
            "warning",
        )


CHECK = Check("pickles", "consistent", __doc__, _find, after=("container",))
