"""The index and the shards say the same.

transformers loads what the index lists, vLLM reads every shard it finds: where the two differ, two engines load two
different models from one directory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from pytest_q3omni.omni.checkpoint import INDEX, SINGLE
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject

_REWRITE = f"write {INDEX} again from the shards' headers"


def _find(subject: Subject) -> Iterator[Fault]:
    index = subject.checkpoint.index
    if index is None:
        yield from _without_index(subject)
        return
    yield from _listed(subject, index)
    yield from _unlisted(subject, index)
    yield from _total(subject)


def _without_index(subject: Subject) -> Iterator[Fault]:
    files = [file.name for file in subject.checkpoint.files]
    if not subject.sound(INDEX) or subject.partial or files in ([], [SINGLE]):
        return
    expected = f"{INDEX}, or one file called {SINGLE}"
    if len(files) > 1:
        yield Fault(INDEX, f"no index for {len(files)} shards", expected, _REWRITE)
    else:
        yield Fault(INDEX, f"no index, and the weights are in {files[0]}", expected, _REWRITE, "warning")


def _listed(subject: Subject, index: Mapping[str, str]) -> Iterator[Fault]:
    entries = subject.entries
    for name, file in index.items():
        if subject.broken and not subject.sound(name, file):
            continue
        entry = entries.get(name)
        if entry is None:
            yield Fault(
                name,
                f"the index puts it into {file}, no shard has it",
                "a tensor in that shard",
                f"download or copy {file} again; if the tensor does not belong here, {_REWRITE}",
            )
        elif entry.file.name != file:
            yield Fault(name, f"stored in {entry.file.name}, the index says {file}", "one place", _REWRITE)


def _unlisted(subject: Subject, index: Mapping[str, str]) -> Iterator[Fault]:
    unlisted: dict[str, list[str]] = defaultdict(list)
    for name, entry in subject.entries.items():
        if name not in index and subject.sound(name):
            unlisted[entry.file.name].append(name)
    listed = set(index.values())
    for file, names in unlisted.items():
        if file in listed:
            fix = f"transformers would not load it: {_REWRITE}"
            yield from (
                Fault(name, f"stored in {file}, not in the index", "every tensor listed", fix) for name in names
            )
        else:
            yield Fault(
                file,
                f"a shard with {len(names)} tensors that the index does not know",
                "a listed shard",
                f"delete {file} if it is a leftover, else {_REWRITE}",
                blames=tuple(names),
            )


def _total(subject: Subject) -> Iterator[Fault]:
    total = subject.checkpoint.index_total
    stored = sum(entry.end - entry.begin for entry in subject.entries.values())
    if total is not None and total != stored and not subject.broken:
        found = f"metadata.total_size is {total!r:.40}"
        yield Fault(INDEX, found, f"{stored:,} bytes, the sum of all tensors' data ({stored})", _REWRITE)


CHECK = Check("index", "consistent", __doc__, _find, after=("container",))
