"""Checks read what they say: headers, or scales, or weights."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
from numpy.typing import NDArray
from sound_checkpoints import SoundCheckpoint

from pytest_q3omni.calibrate.record import load_record
from pytest_q3omni.omni.checkpoint import open_checkpoint, scan
from pytest_q3omni.omni.storage import LocalFiles, Span
from pytest_q3omni.omni.tiny import checkpoint_path, record_path
from pytest_q3omni.verify.checks import checks
from pytest_q3omni.verify.subject import Subject

pytestmark = pytest.mark.tiny

SCALES = ("scale", "scale_2", "norm.weight", "norm1.weight", "layernorm.weight")


class Watched(LocalFiles):
    """Local files that remember which tensors were read."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: set[str] = set()

    def read(self, span: Span, target: NDArray) -> None:
        self.tensors.add(span.tensor)
        super().read(span, target)

    def spans(self, spans: Iterable[Span]) -> Iterator[NDArray]:
        wanted = list(spans)
        self.tensors |= {span.tensor for span in wanted}
        return super().spans(wanted)


def read_by_check(place: SoundCheckpoint, *, source: bool) -> dict[str, set[str]]:
    storage = Watched()
    subject = Subject(
        replace(scan(place("nvfp4-default")), storage=storage),
        source=open_checkpoint(checkpoint_path()) if source else None,
        record=load_record(record_path()),
    )
    found = {}
    for check in checks():
        storage.tensors.clear()
        assert not [finding for finding in check.run(subject) if finding.severity == "error"]
        found[check.name] = set(storage.tensors)
    return found


@pytest.mark.parametrize("source", [True, False])
def test_checks_read_what_they_say(sound: SoundCheckpoint, source: bool) -> None:
    reads = {check.name: check.reads for check in checks()}
    for name, tensors in read_by_check(sound, source=source).items():
        if reads[name] == "headers":
            assert not tensors, name
        if reads[name] == "scales":
            assert all(tensor.endswith(SCALES) for tensor in tensors), (name, sorted(tensors)[:3])


def test_every_check_that_says_so_does_read(sound: SoundCheckpoint) -> None:
    with_source, without = (read_by_check(sound, source=source) for source in (True, False))
    idle = {
        check.name
        for check in checks()
        if check.reads != "headers" and not with_source[check.name] | without[check.name]
    }
    fp8 = {"fp8-scales", "fp8-weights", "fp8-input-scale-range", "kv-cache-scales"}
    shared = {"shared-scales", "input-scales", "shared-input-scales", "recorded-input-scales"}  # read once, for all
    assert idle <= fp8 | shared
