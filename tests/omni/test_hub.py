"""A checkpoint on a hub is read by range, and a hub that misbehaves is told apart from a bad checkpoint."""

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hub_server import ADDRESS, API, COMMIT, PINNED, Hub, serve

from pytest_q3omni.errors import Inconsistent, InvalidRequest, Unreachable, Unreadable, WeightsNotHeld
from pytest_q3omni.omni import hub_files
from pytest_q3omni.omni.checkpoint import INDEX, SINGLE, open_checkpoint, scan, source_tensors
from pytest_q3omni.omni.hub import open_hub
from pytest_q3omni.omni.hub_files import HubFiles
from pytest_q3omni.omni.ranges import Line
from pytest_q3omni.omni.safetensors_file import layout
from pytest_q3omni.omni.storage import Span
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.records import TensorInfo

pytestmark = pytest.mark.tiny

TENSORS = [
    TensorInfo("a.weight", "U8", (8, 64)),
    TensorInfo("a.weight_scale", "F8_E4M3", (8, 8)),
    TensorInfo("a.weight_scale_2", "F32", ()),
    TensorInfo("b.weight", "BF16", (4, 32)),
    TensorInfo("b.norm.weight", "BF16", (32,)),
    TensorInfo("c.input_scale", "F32", (1,)),
]
DATA = np.random.default_rng(7).integers(0, 256, 2048, dtype=np.uint8)


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy between the test and its server; a token that must not leak."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a config, a tokenizer and one shard."""
    home = tmp_path / "repository"
    home.mkdir()
    (home / "config.json").write_text('{"model_type": "qwen3_omni_moe"}')
    (home / "tokenizer.json").write_text('{"model": {}}')
    (home / "training_args.bin").write_bytes(b"a pickle")
    made = layout(TENSORS)
    (home / SINGLE).write_bytes(made.header + DATA[: made.data_bytes].tobytes())
    return home


@pytest.fixture
def hub(root: Path) -> Iterator[Hub]:
    with serve(root) as made:
        yield made


def opened(hub: Hub, address: str = ADDRESS, *, attempts: int = 3, timeout: float = 5.0) -> HubFiles:
    place = open_hub(address, line=Line(attempts=attempts, pause=0.01, timeout=timeout), endpoint=hub.url)
    assert isinstance(place, HubFiles)
    return place


def test_headers_and_small_tensors_are_the_local_ones(hub: Hub, root: Path) -> None:
    here, there = open_checkpoint(root), open_checkpoint(opened(hub))
    assert there.config == here.config
    assert there.names() == here.names()
    assert {e.info: (e.begin, e.end) for e in there.entries.values()} == {
        e.info: (e.begin, e.end) for e in here.entries.values()
    }
    for name in ("a.weight_scale", "a.weight_scale_2", "b.norm.weight", "c.input_scale"):
        assert there.array(name).tobytes() == here.array(name).tobytes()
    assert there.read("a.weight_scale", start=3, stop=9).tolist() == here.read("a.weight_scale")[3:9].tolist()


def test_weights_are_refused_and_never_sent(hub: Hub) -> None:
    checkpoint = open_checkpoint(opened(hub))
    before = len(hub.log)
    for name in ("a.weight", "b.weight"):
        with pytest.raises(WeightsNotHeld, match=rf"{name}: weights, which are never fetched.*download"):
            checkpoint.read(name)
        with pytest.raises(WeightsNotHeld):
            checkpoint.read(name, stop=1)
    entry = checkpoint.entries["a.weight_scale"]
    with pytest.raises(WeightsNotHeld):  # a scale and what lies beside it
        list(checkpoint.storage.spans([Span(entry.file, entry.begin, entry.end + 1, "a.weight_scale")]))
    assert len(hub.log) == before
    begin, end = checkpoint.entries["a.weight"][2:]
    assert not any(low < end and high > begin for low, high in hub.ranges(SINGLE))


def test_the_revision_is_pinned_to_a_commit(hub: Hub) -> None:
    hub.revisions = ("refs/pr/1",)
    place = opened(hub, f"{ADDRESS}@refs/pr/1")
    hub.revisions = ()
    assert str(place) == PINNED
    assert set(open_checkpoint(place).entries) == {tensor.name for tensor in TENSORS}


def test_the_token_goes_to_the_hub_and_not_to_the_store(hub: Hub) -> None:
    open_checkpoint(opened(hub)).array("a.weight_scale")
    assert {asked.authorization for asked in hub.log if asked.server == "hub"} == {"Bearer hf_secret"}
    stored = [asked for asked in hub.log if asked.server == "store"]
    assert stored
    assert {asked.authorization for asked in stored} == {""}


def test_what_is_reported_is_what_was_sent_and_asked(hub: Hub) -> None:
    place = opened(hub)
    open_checkpoint(place).array("a.weight_scale")
    assert (place.traffic.bytes, place.traffic.requests) == (hub.sent, len(hub.log))
    resolved = [asked for asked in hub.log if asked.server == "hub" and asked.name == SINGLE]
    assert len(resolved) == 1, "the store's address is asked for once"


@pytest.mark.parametrize("file", [SINGLE, "config.json", API])
@pytest.mark.parametrize("mode", ["503 once", "429 once", "cut once", "slow once"])
def test_what_passes_is_tried_again(hub: Hub, file: str, mode: str) -> None:
    hub.modes[file] = mode
    checkpoint = open_checkpoint(opened(hub, timeout=0.3))
    assert len(checkpoint.entries) == len(TENSORS)


def test_what_came_of_a_short_answer_is_kept(hub: Hub, root: Path) -> None:
    checkpoint = open_checkpoint(opened(hub))
    hub.modes[SINGLE], hub.tries[SINGLE] = "short once", 0
    assert checkpoint.array("a.weight_scale").tobytes() == open_checkpoint(root).array("a.weight_scale").tobytes()
    (begin, middle), (again, end) = hub.ranges(SINGLE)[-2:]
    assert (again - begin, end - middle, end - begin) == (32, 0, 64)


REFUSED = {
    "503": r"HTTP 503 \(3 times\).*try again later",
    "429": r"HTTP 429 \(3 times\)",
    "500": r"HTTP 500 \(3 times\)",
    "404": r"HTTP 404.*check the name",
    "403": r"access refused.*HF_TOKEN",
    "416": r"HTTP 416",
    "cut": r"no answer|ends after",
    "short": r"the answer ends after \d of 8 bytes \(3 times\)",
    "slow": r"no answer.*\(3 times\)",
    "whole": r"ignores ranges.*HTTP 200.*not read",
    "other range": r"the server sends Content-Range: 'bytes 0-8/",
    "other size": r"the server sends a file of .* bytes; expected .* as listed",
    "no range header": r"the server sends Content-Range: ''",
    "encoded": r"the server sends a body encoded as gzip",
    "gated": r"gated.*accept them on its page.*hf auth login",
}


@pytest.mark.parametrize("mode", REFUSED)
def test_a_hub_that_misbehaves_is_no_finding(hub: Hub, mode: str) -> None:
    hub.modes[SINGLE] = mode
    place = opened(hub, timeout=0.3)
    before = place.traffic.bytes
    with pytest.raises(Unreachable, match=REFUSED[mode]) as caught:
        scan(place)
    assert caught.value.where.startswith(f"{PINNED}/{SINGLE}")
    assert caught.value.fix
    if mode == "whole":
        assert place.traffic.bytes == before


def test_more_bytes_than_asked_for_are_not_taken(hub: Hub) -> None:
    hub.modes[SINGLE] = "more"
    with pytest.raises(Unreachable, match="the server sends more bytes than were asked for"):
        scan(opened(hub))


def test_a_signature_that_expires_is_renewed(hub: Hub, root: Path) -> None:
    checkpoint = open_checkpoint(opened(hub))
    hub.modes[SINGLE], hub.tries[SINGLE] = "403 once", 0
    assert checkpoint.array("a.weight_scale").tobytes() == open_checkpoint(root).array("a.weight_scale").tobytes()
    assert [asked.server for asked in hub.log[-3:]] == ["store", "hub", "store"]


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("hf://owner/another", "no such repository, or a private one"),
        (f"{ADDRESS}@nowhere", "no such revision"),
        ("hf://name", "not the address of a model"),
        ("hf://owner/name/file.json", "not the address of a model"),
        ("hf://../name", "not the address of a model"),
        ("hf://owner/..", "not the address of a model"),
        ("hf://owner/name@", "not the address of a model"),
        ("hf://owner/name?x=1", "not the address of a model"),
        ("hf://owner/na me", "not the address of a model"),
    ],
)
def test_an_address_that_leads_nowhere(hub: Hub, address: str, text: str) -> None:
    with pytest.raises(InvalidRequest, match=text) as caught:
        opened(hub, address)
    assert caught.value.where == address
    assert caught.value.fix


@pytest.mark.parametrize("mode", ["nonsense", "encoded", "503", "slow"])
def test_an_endpoint_that_is_no_hub(hub: Hub, mode: str) -> None:
    hub.modes[API] = mode
    with pytest.raises(Unreachable):
        opened(hub, timeout=0.3)


def test_nobody_there(hub: Hub) -> None:
    with pytest.raises(Unreachable, match=r"no answer.*\(2 times\)"):
        open_hub(ADDRESS, line=Line(attempts=2, pause=0.01, timeout=0.5), endpoint="http://127.0.0.1:9")


@pytest.mark.parametrize("listing", [
    b"[]", b"{}", b'{"sha": 3, "siblings": []}', b'{"sha": "main", "siblings": []}',
    b'{"sha": "%s", "siblings": [3]}' % COMMIT.encode(),
    b'{"sha": "%s", "siblings": [{"rfilename": 3}]}' % COMMIT.encode(),
    b'{"sha": "%s", "siblings": [{"rfilename": "a", "size": -1}]}' % COMMIT.encode(),
    b'{"sha": "%s", "siblings": [{"rfilename": "a", "size": "x"}]}' % COMMIT.encode(),
    b'{"sha": "%s", "siblings": [{"rfilename": ["a"]}]}' % COMMIT.encode(), b"[" * 100_000,
])  # fmt: skip
def test_a_listing_that_is_none(hub: Hub, listing: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "listing", lambda: listing)
    with pytest.raises(Unreachable, match="no listing of a repository"):
        opened(hub)


def test_sizes_may_be_missing_from_the_listing(hub: Hub) -> None:
    hub.sizes = False
    assert len(open_checkpoint(opened(hub)).entries) == len(TENSORS)


def test_a_shard_of_another_size_than_listed(hub: Hub, root: Path) -> None:
    hub.listed[SINGLE] = (root / SINGLE).stat().st_size + 8
    with pytest.raises(Unreachable, match=r"the server sends a file of .* as listed"):
        scan(opened(hub))


def test_a_small_file_of_another_size_than_listed(hub: Hub, root: Path) -> None:
    size = (root / "tokenizer.json").stat().st_size
    for listed, text in ((size + 1, "the server sends"), (size - 1, "longer than listed")):
        hub.listed["tokenizer.json"] = listed
        with pytest.raises(Unreachable, match=text):
            opened(hub)


def test_a_companion_that_no_reader_takes_is_not_fetched(hub: Hub, root: Path) -> None:
    hub.listed = {"tokenizer.json": 1 << 40, "config.json": 1 << 40}
    place = opened(hub)
    assert (place.directory / "tokenizer.json").stat().st_size == 1 << 40
    assert (place.directory / "tokenizer.json").stat().st_blocks < 100
    assert {asked.name for asked in hub.log} == {API}
    with pytest.raises(Unreadable, match=rf"{PINNED}/config\.json: .* bytes; expected"):
        scan(place)


def test_names_from_a_listing_write_nothing_outside(hub: Hub) -> None:
    hub.listed = {"../outside.json": 2, "/etc/outside.json": 2, "sub/config.json": 2, "q3omni/../../x.json": 2}
    place = opened(hub)
    assert not {asked.name for asked in hub.log} & hub.listed.keys()
    assert sorted(file.name for file in place.directory.iterdir()) == ["config.json", "q3omni", "tokenizer.json"]


def test_a_damaged_header_says_the_same_as_here(hub: Hub, root: Path) -> None:
    whole = (root / SINGLE).read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\n"
    for content in (whole[:-5], whole + b"x", b"", b"12", (1 << 60).to_bytes(8, "little"), whole[:40], pointer,
                    (9).to_bytes(8, "little") + b"{nonsense"):  # fmt: skip
        (root / SINGLE).write_bytes(content)
        (here,), (there,) = scan(root).problems, scan(opened(hub)).problems
        assert (there.found, there.expected, there.fix) == (here.found, here.expected, here.fix)


def test_a_missing_config_and_missing_shards_are_named(hub: Hub, root: Path) -> None:
    (root / INDEX).write_text('{"weight_map": {"x": "gone.safetensors", "y": "../up.safetensors"}}')
    found = {Path(problem.where).name: problem.found for problem in scan(opened(hub)).problems}
    assert found == {
        "gone.safetensors": "named by the index, does not exist",
        "up.safetensors": "leaves the checkpoint's directory",
    }
    with pytest.raises(Inconsistent, match=rf"{PINNED}/\.\./up\.safetensors: leaves"):
        open_checkpoint(opened(hub))
    (root / "config.json").unlink()
    with pytest.raises(Unreadable, match=rf"{PINNED}/config\.json: No such file"):
        scan(opened(hub))


def test_a_config_alone_and_a_whole_model_can_be_planned(root: Path) -> None:
    (root / SINGLE).unlink()
    shutil.copy(checkpoint_path() / "config.json", root)
    here = sorted(source_tensors(checkpoint_path())[1], key=str)
    with serve(root) as hub:
        assert sorted(source_tensors(opened(hub))[1], key=str) == here
    with serve(checkpoint_path()) as hub:
        place = opened(hub)
        assert sorted(source_tensors(place)[1], key=str) == here
        count = len(hub.log)
        source_tensors(place)
        assert len(hub.log) == count, "headers are fetched once"


def test_spans_come_in_order_whatever_their_number(hub: Hub) -> None:
    checkpoint = open_checkpoint(opened(hub))
    entry = checkpoint.entries["a.weight_scale"]
    whole = checkpoint.read("a.weight_scale").tobytes()
    spans = [Span(entry.file, entry.begin + n, entry.begin + n + 2, "a.weight_scale") for n in range(50)]
    assert [data.tobytes() for data in checkpoint.storage.spans(spans)] == [whole[n : n + 2] for n in range(50)]


def test_prefetched_spans_need_no_request_of_their_own(hub: Hub) -> None:
    checkpoint = open_checkpoint(opened(hub))
    entries = [checkpoint.entries[name] for name in ("a.weight_scale_2", "c.input_scale", "b.norm.weight", "a.weight")]
    before = len(hub.log)
    checkpoint.storage.prefetch(Span(e.file, e.begin, e.end, e.info.name) for e in entries)
    assert len(hub.log) == before + 1, "they lie side by side; weights are left out"
    checkpoint.array("c.input_scale")
    checkpoint.array("b.norm.weight")
    assert len(hub.log) == before + 1


def test_a_repository_without_end_is_not_read(hub: Hub, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_files, "MAX_HEADER_BYTES", 700)
    shutil.copy(root / SINGLE, root / "second.safetensors")
    with pytest.raises(Unreachable, match=r"bytes of headers; expected at most 700.*download"):
        scan(opened(hub))
    monkeypatch.setattr(hub_files, "_MOST_SHARDS", 1)
    place = opened(hub)
    before = len(hub.log)
    with pytest.raises(Unreachable, match="2 weight files; expected at most 1"):
        scan(place)
    assert len(hub.log) == before


def test_scalars_asked_for_one_by_one_come_together(root: Path) -> None:
    names = [f"layers.{number}.weight_scale_2" for number in range(40_000)]
    made = layout([TensorInfo(name, "F32", ()) for name in names] + [TensorInfo("a.weight", "U8", (1 << 10, 1 << 8))])
    values = np.arange(len(names), dtype=np.float32)
    (root / SINGLE).write_bytes(made.header + values.tobytes() + bytes(1 << 18))
    with serve(root) as hub:
        checkpoint = open_checkpoint(opened(hub))
        before = len(hub.log)
        assert [float(checkpoint.array(name)) for name in sorted(names)] == values.tolist()
        assert len(hub.log) - before == 3
        begin, end = checkpoint.entries["a.weight"][2:]
        assert not any(low < end and high > begin for low, high in hub.ranges(SINGLE))


def test_scales_that_lie_apart_are_not_fetched_one_by_one(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_files, "_MOST_REQUESTS", 1)
    checkpoint = open_checkpoint(opened(hub))
    entries = [checkpoint.entries[name] for name in ("a.weight_scale", "b.norm.weight")]
    with pytest.raises(Unreachable, match=r"2 small tensors lie apart.*download"):
        list(checkpoint.storage.spans(Span(e.file, e.begin, e.end, e.info.name) for e in entries))


def test_the_temporary_directory_goes_with_the_object(hub: Hub) -> None:
    place = opened(hub)
    home = Path(os.fspath(place))
    assert (home / "config.json").exists()
    del place
    gc.collect()
    assert not home.exists()
