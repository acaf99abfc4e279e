"""The tiny model's conversations and calibration record, package data: complete, reproducible, and good enough."""

import json
import math
import sys
from pathlib import Path

import pytest

from pytest_q3omni.calibrate.observe import check_amax
from pytest_q3omni.calibrate.record import load_record
from pytest_q3omni.omni.conversations import load_conversations
from pytest_q3omni.omni.tiny import checkpoint_path, conversations_path, record_path
from pytest_q3omni.plan.build import build_plan

pytestmark = pytest.mark.tiny

_REASON = "needs the quantize extra: pip install pytest-q3omni[quantize]"
RECIPE = "nvfp4-default"


@pytest.fixture(scope="module")
def conversations():
    return load_conversations(conversations_path())


@pytest.fixture(scope="module")
def record():
    return load_record(record_path())


@pytest.fixture(scope="module")
def again():
    """Calibrated here and now."""
    torch = pytest.importorskip("torch", reason=_REASON)
    pytest.importorskip("modelopt", reason=_REASON)
    from pytest_q3omni.calibrate.observe import run_calibration

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    plan = build_plan(checkpoint_path(), RECIPE)
    yield run_calibration(checkpoint_path(), plan, load_conversations(conversations_path()))
    torch.set_num_threads(before)


def test_sixty_conversations_of_three_kinds(conversations):
    assert len(conversations) == 60
    kinds = [conversation.modalities for conversation in conversations]
    assert sum(kind == {"text"} for kind in kinds) >= 16
    assert sum("image" in kind for kind in kinds) >= 20
    assert sum("audio" in kind for kind in kinds) >= 20
    assert any(kind == {"text", "image", "audio"} for kind in kinds)
    assert sum(len(conversation.messages) > 3 for conversation in conversations) >= 8
    assert 10 <= sum(not conversation.answered for conversation in conversations) <= 20


def test_they_are_small_and_complete(conversations):
    folder = conversations_path().parent
    files = {file for file in folder.iterdir() if file != conversations_path()}
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 1_500_000
    used = {Path(part[kind]) for item in conversations for part in item.parts
            for kind in ("image", "audio") if isinstance(part.get(kind), str)}  # fmt: skip
    assert used == files
    assert {file.suffix for file in files} == {".png", ".wav", ".flac"}
    lines = [json.loads(line) for line in conversations_path().read_text(encoding="utf-8").splitlines()]
    written = json.dumps(lines)
    assert '"image_url"' in written
    assert '"input_audio"' in written


def test_the_record_belongs_to_the_checkpoint(record):
    plan = build_plan(checkpoint_path(), RECIPE)
    assert record.source_fingerprint == plan.fingerprint
    assert record.recipe == plan.recipe
    check_amax(plan, record.input_amax)
    assert set(record.input_amax) == {tensor.input_site for tensor in plan.packed}


def test_every_expert_saw_tokens(record):
    modules = record.expert_tokens["text"]
    assert len(modules) == 2
    for module in modules:
        kinds = [tokens[module] for tokens in record.expert_tokens.values()]
        totals = [sum(counts) for counts in zip(*kinds, strict=True)]
        assert min(totals) > 0, f"{module}: {totals}"


def test_every_sample_passed(record, conversations):
    assert (record.samples_total, record.samples_passed) == (60, 60)
    assert record.samples == {
        kind: sum(kind in item.modalities for item in conversations) for kind in ("text", "image", "audio")
    }


def test_calibrating_again_gives_the_same_record(record, again):
    """Sums in BF16 may be ordered otherwise on another CPU: one unit in the last place is granted."""
    for site, value in record.input_amax.items():
        unit = 2.0 ** (math.frexp(value)[1] - 8)  # BF16 has 8 significant bits
        assert abs(again.input_amax[site] - value) <= unit, site
    assert again.samples == record.samples
    assert again.source_fingerprint == record.source_fingerprint
    for modality, tokens in record.expert_tokens.items():
        for module, counts in tokens.items():
            other = again.expert_tokens[modality][module]
            assert sum(other) == sum(counts)
            moved = sum(abs(left - right) for left, right in zip(counts, other, strict=True)) / 2
            assert moved <= 0.01 * sum(counts), f"{module}, {modality}: {counts} now {other}"


def test_the_script_writes_these_conversations(tmp_path, monkeypatch, conversations):
    """Equal in what they say; PNG and FLAC may be compressed otherwise by another release of their libraries."""
    for package in ("torch", "soundfile", "PIL", "soxr"):
        pytest.importorskip(package, reason=_REASON)
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "tiny")
    monkeypatch.delitem(sys.modules, "recipe", raising=False)
    from recipe.make_conversations import write_conversations

    from pytest_q3omni.omni.media import decode_audio, decode_image

    file = tmp_path / "conversations" / "conversations.jsonl"
    write_conversations(file)
    made = load_conversations(file)
    assert [item.id for item in made] == [item.id for item in conversations]
    for new, old in zip(made, conversations, strict=True):
        assert [message["role"] for message in new.messages] == [message["role"] for message in old.messages]
        for left, right in zip(new.parts, old.parts, strict=True):
            assert left["type"] == right["type"]
            if left["type"] == "text":
                assert left == right
            elif left["type"] == "image":
                assert decode_image(left["image"]).tobytes() == decode_image(right["image"]).tobytes()
            else:
                samples = (decode_audio(part["audio"], 16_000) for part in (left, right))
                assert next(samples).tobytes() == next(samples).tobytes()
