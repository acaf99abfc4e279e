"""The judge says of a checkpoint on a hub what it says of the same one here, and never fetches its weights."""

import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sound_checkpoints import SoundCheckpoint, load_fault

from pytest_q3omni.api import find_record, verify
from pytest_q3omni.engines.engine_report import EngineReport
from pytest_q3omni.omni import hub as hub_module
from pytest_q3omni.omni.checkpoint import Checkpoint, scan
from pytest_q3omni.omni.hub import open_hub
from pytest_q3omni.omni.hub_files import COMPANIONS, HubFiles
from pytest_q3omni.omni.ranges import Line
from pytest_q3omni.omni.tiny import checkpoint_path, record_path
from pytest_q3omni.records import Judgement
from pytest_q3omni.verify import companions
from pytest_q3omni.verify.checks import checks
from pytest_q3omni.verify.judge import judge
from pytest_q3omni.verify.reading import affordable

sys.path.insert(0, str(Path(__file__).parents[1] / "omni"))
from hub_server import ADDRESS, PINNED, Hub, serve  # another folder of tests has it

pytestmark = pytest.mark.tiny

UNSEEN = "; the weights stay on the hub, so whether they are finite was not asked"
FAULTS = (
    *("header_longer_than_file", "header_not_json", "header_lists_a_tensor_twice", "truncated_file", "empty_file"),
    *("overlapping_tensors", "gap_between_tensors", "size_unlike_shape", "unknown_dtype", "leftover_shard"),
    *("index_lists_a_ghost", "index_not_json", "tensor_in_two_shards", "pickle_beside_the_weights"),
    *(
        "block_scale_nan",
        "block_scale_negative",
        "block_scales_in_float32",
        "block_scales_missing",
        "one_scale_per_row",
    ),
    *("global_scale_nan", "global_scale_zero", "gate_up_packed_apart", "global_scale_far_from_its_peers"),
    *("input_scale_infinite", "qkv_input_scales_differ", "gate_up_input_scale_100_times_too_large"),
    *("o_input_scale_100_times_too_large", "fake_quantized_export", "no_quantization_config", "group_size_32"),
    *("tokenizer_not_json", "second_config_contradicts", "processor_missing", "lm_head_missing", "sample_failed"),
)


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def opened(hub: Hub, *, all_scales: bool = False) -> HubFiles:
    place = open_hub(ADDRESS, line=Line(attempts=2, pause=0.01, timeout=5.0), endpoint=hub.url, all_scales=all_scales)
    assert isinstance(place, HubFiles)
    return place


def told(judgement: Judgement) -> tuple[object, ...]:
    """What is said of the checkpoint, but for what only one on a hub is told."""
    verdicts = [replace(verdict, why=verdict.why.removesuffix(UNSEEN)) for verdict in judgement.verdicts]
    return verdicts, judgement.findings, judgement.facts


def weights_sent(hub: Hub, local: Checkpoint) -> list[str]:
    """Tensors of codes and BF16 matrices of which a byte was sent."""
    return [
        name
        for name, entry in local.entries.items()
        if len(entry.info.shape) > 1 and entry.info.dtype in ("U8", "BF16")
        for begin, end in hub.ranges(entry.file.name)
        if begin < entry.end and end > entry.begin
    ]


@pytest.mark.parametrize("base", ["nvfp4-default", "nvfp4-mlp-weight-only", "sharded"])
def test_a_sound_checkpoint_gets_the_local_verdicts(base: str, sound: SoundCheckpoint) -> None:
    with serve(sound(base)) as hub:
        there = verify(opened(hub))
        assert there.fetched is not None
        assert (there.fetched.bytes, there.fetched.requests) == (hub.sent, len(hub.log))
        assert there.fetched.bytes < sum(file.stat().st_size for file in sound(base).iterdir() if file.is_file()) / 4
        assert not weights_sent(hub, scan(sound(base)))
    here = verify(sound(base))
    assert told(there) == told(here)
    assert there.verdict("consistent").why == here.verdict("consistent").why + UNSEEN
    assert (here.fetched, there.checkpoint) == (None, PINNED)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_gets_the_local_findings(name: str, sound: SoundCheckpoint, tmp_path: Path) -> None:
    fault, directory = load_fault(name).FAULT, tmp_path / "checkpoint"
    shutil.copytree(sound(fault.base), directory)
    fault.break_(directory)
    ask = verify if "record" in fault.given else judge  # the first finds the checkpoint's own record
    with serve(directory) as hub:
        there = ask(opened(hub))
        assert not weights_sent(hub, scan(directory))
    assert told(there) == told(ask(directory))
    assert any(finding.check == fault.check for finding in there.findings)


def test_a_zero_scale_is_a_warning_since_its_codes_stay_there(sound: SoundCheckpoint, tmp_path: Path) -> None:
    directory = tmp_path / "checkpoint"
    shutil.copytree(sound("nvfp4-default"), directory)
    load_fault("block_scale_zero").FAULT.break_(directory)
    with serve(directory) as hub:
        there = verify(opened(hub))
        assert not weights_sent(hub, scan(directory))
    (found,) = [finding for finding in there.findings if finding.check == "block-scales"]
    assert found.severity == "warning"
    assert found.found.startswith("1 of 512 block scales are zero; whether the codes")
    assert "download" in found.fix
    assert not there.failed


def test_faithful_needs_the_weights_and_says_so(sound: SoundCheckpoint) -> None:
    with serve(sound("nvfp4-default")) as hub:
        there = verify(opened(hub), source=checkpoint_path())
        assert not weights_sent(hub, scan(sound("nvfp4-default")))
    verdict = there.verdict("faithful")
    assert verdict.state == "not checked"
    assert verdict.why.startswith("needs the weights, which stay on the hub (source-match")
    assert "download the checkpoint" in verdict.why
    assert {verdict.state for verdict in there.verdicts[:2]} == {"pass"}


def test_an_engine_is_not_asked_of_files_that_are_not_here(sound: SoundCheckpoint) -> None:
    def ask(*_: object) -> EngineReport:
        raise AssertionError("asked")

    with serve(sound("nvfp4-default")) as hub:
        verdict = judge(opened(hub), engine=ask).verdict("loads")
    assert (verdict.state, verdict.why[:15]) == ("not checked", "needs the files")


def test_a_source_of_another_shape_is_found_without_weights(sound: SoundCheckpoint, tmp_path: Path) -> None:
    with serve(sound("nvfp4-default")) as hub:
        there = verify(opened(hub), source=sound("nvfp4-mlp-weight-only"))
    assert there.verdict("faithful").state == "fail"


def test_a_record_is_found_there_or_given_here(sound: SoundCheckpoint, tmp_path: Path) -> None:
    with serve(sound("nvfp4-default")) as hub:
        place = opened(hub)
        assert verify(place).verdict("calibrated").state == "pass"
        assert find_record(place) is not None
    bare = tmp_path / "bare"
    shutil.copytree(sound("nvfp4-default"), bare, ignore=shutil.ignore_patterns("q3omni"))
    with serve(bare) as hub:
        assert verify(opened(hub)).verdict("calibrated").state == "not checked"
        assert verify(opened(hub), record=record_path()).verdict("calibrated").state == "pass"


@pytest.mark.parametrize("name", ["record_not_json", "record_cut_short"])
def test_a_damaged_record_is_named_by_its_address(name: str, sound: SoundCheckpoint, tmp_path: Path) -> None:
    directory = tmp_path / "checkpoint"
    shutil.copytree(sound("nvfp4-default"), directory)
    load_fault(name).FAULT.break_(directory)
    with serve(directory) as hub:
        (found,) = [finding for finding in verify(opened(hub)).findings if finding.check == "record-files"]
    assert found.where.startswith(f"{PINNED}/q3omni/record.")


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def limit(scale_bytes: int) -> None:
        monkeypatch.setattr(hub_module, "SCALE_BYTES", scale_bytes)
        monkeypatch.setattr(HubFiles, "span_bytes", 512)

    return limit


def test_a_budget_is_kept_and_told(sound: SoundCheckpoint, tight: Callable[[int], None]) -> None:
    tight(8_000)
    with serve(sound("nvfp4-default")) as hub:
        some = verify(opened(hub))
        scales = [
            entry for name, entry in scan(sound("nvfp4-default")).entries.items() if name.endswith("weight_scale")
        ]
        sent = sum(
            max(0, min(end, entry.end) - max(begin, entry.begin))
            for entry in scales
            for begin, end in hub.ranges(entry.file.name)
        )
    assert 0 < sent <= 8_000 < sum(entry.end - entry.begin for entry in scales)
    why = some.verdict("consistent").why
    assert re.search(r"block scales of \d+ of 56 tensors read, evenly spread; --all-scales reads all", why)
    assert re.search(r"ranges of inputs that need \d+ more block scales are not known", why)
    assert not some.failed


def test_all_scales_reads_all(sound: SoundCheckpoint, tight: Callable[[int], None]) -> None:
    tight(8_000)
    with serve(sound("nvfp4-default")) as hub:
        every = verify(opened(hub, all_scales=True))
    assert told(every) == told(verify(sound("nvfp4-default")))


@pytest.mark.parametrize("budget", [0, 1, 700, 5_000, 20_000, 10**9])
def test_what_is_affordable_fits_and_is_spread(
    budget: int, sound: SoundCheckpoint, tight: Callable[[int], None]
) -> None:
    checkpoint = scan(sound("sharded"))
    names = [name for name in checkpoint.entries if name.endswith("weight_scale")]
    sizes = {name: checkpoint.entries[name].end - checkpoint.entries[name].begin for name in names}
    chosen = affordable(checkpoint, names, budget)
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= set(names)
    assert sum(sizes[name] for name in chosen) <= budget or budget >= sum(sizes.values())
    assert (len(chosen) == len(names)) == (budget >= sum(sizes.values()))


def test_a_hub_that_breaks_down_meanwhile_is_no_verdict(sound: SoundCheckpoint) -> None:
    from pytest_q3omni.errors import Unreachable

    with serve(sound("nvfp4-default")) as hub:
        place = opened(hub)
        scan(place)  # the headers are there
        hub.modes["model.safetensors"] = "503"
        with pytest.raises(Unreachable, match=r"model\.safetensors: .*weight_scale_2|HTTP 503"):
            verify(place)


def test_every_small_file_that_the_judge_reads_is_fetched() -> None:
    named = [value for name, value in vars(companions).items() if name.isupper() and not name.startswith("_")]
    files = {value for value in named if isinstance(value, str)}
    files |= {value for group in named if isinstance(group, tuple) for value in group}
    files |= {value for check in checks() for value in _files(check.find)}
    assert files <= {Path(name).name for name in COMPANIONS}


def _files(find: Callable[..., object]) -> list[str]:
    """File names among the constants of a check's module."""
    values = [value for value in vars(sys.modules[find.__module__]).values() if isinstance(value, str)]
    return [value for value in values if re.fullmatch(r"[\w.]+\.(json|txt|jinja)", value)]
