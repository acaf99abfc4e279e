"""Faults that only parity sees, and faults that it does not see."""

import shutil

import pytest

pytestmark = pytest.mark.tiny

_REASON = "needs the quantize extra: pip install pytest-q3omni[quantize]"
pytest.importorskip("torch", reason=_REASON)
pytest.importorskip("transformers", reason=_REASON)
pytest.importorskip("modelopt", reason=_REASON)

from parity_runs import against, load_fault  # noqa: E402

from pytest_q3omni import api  # noqa: E402
from pytest_q3omni.omni.tiny import checkpoint_path  # noqa: E402

SITES = {
    "qkv": ("q_proj", "k_proj", "v_proj"),
    "o": ("o_proj",),
    "gate_up": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}


@pytest.fixture
def damaged(sound, tmp_path):
    """A copy of the sound checkpoint with one of the catalogue's faults."""

    def damage(name):
        place = tmp_path / name
        shutil.copytree(sound, place)
        load_fault(name).FAULT.break_(place)
        return place

    return damage


def states(parity, numerics):
    return {row.modality: row.state for row in parity.agreements if row.numerics == numerics}


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("size", ["large", "small"])
def test_an_input_scale_100_times_off_fails_in_w4a4_and_not_in_w4a16(site, size, damaged, reference):
    parity = against(reference, damaged(f"{site}_input_scale_100_times_too_{size}"), speech=False)
    assert parity.verdict.state == "fail"
    assert set(states(parity, "w4a16").values()) == {"pass"}, "weights alone never use an input scale"
    ranges = [found for found in parity.findings if found.check == "input-ranges"]
    assert ranges
    assert all(found.where.endswith(tuple(f"{name}.input_scale" for name in SITES[site])) for found in ranges)
    assert all("100 times" in found.found for found in ranges)
    answers = [found for found in parity.findings if (found.check, found.severity) == ("answers", "error")]
    if size == "small":  # everything beyond a hundredth of the largest input is clipped
        assert answers
        assert all("W4A4" in found.where and "input scales" in found.fix for found in answers)
    else:  # nothing is clipped, and the tiny model's small blocks stay in E4M3's range: the answers remain as they are
        assert not answers


@pytest.mark.parametrize(
    ("module", "severity"),
    [
        ("thinker.model.layers.1.self_attn.q_proj", "error"),
        ("thinker.model.layers.0.mlp.experts.3.down_proj", "warning"),
    ],
)
def test_one_input_scale_too_small_among_sound_ones_is_named(module, severity, sound, reference, tmp_path):
    """Answers hardly show it. q, k and v see the same input; one expert's own inputs may be small: nobody can say."""
    from _checkpoint_edit import read, write

    place = tmp_path / "one"
    shutil.copytree(sound, place)
    name = f"{module}.input_scale"
    write(place, {name: read(place, name) / 100})
    parity = against(reference, place, speech=False)
    (found,) = [found for found in parity.findings if found.check == "input-ranges"]
    assert (found.where, found.severity) == (name, severity)
    assert "100 times less" in found.found


def test_one_experts_global_scale_4_times_too_large_passes_here_and_not_in_faithful(damaged, reference):
    broken = damaged("expert_global_scale_4_times_too_large")
    parity = against(reference, broken, speech=False)
    assert parity.verdict.state == "pass"
    assert {row.accuracy for row in parity.agreements} == {1.0}
    judgement = api.verify(broken, source=checkpoint_path())
    assert judgement.verdict("faithful").state == "fail"
    errors = [found for found in judgement.findings if found.severity == "error"]
    assert any("mlp.experts.3" in found.where for found in errors)


@pytest.mark.parametrize("name", ["rows_rotated", "global_scale_inverted"])
def test_damaged_weights_fail_in_both_numerics(name, damaged, reference):
    parity = against(reference, damaged(name), speech=False)
    assert "fail" in states(parity, "w4a16").values()
    assert "fail" in states(parity, "w4a4").values()
    failed = [found for found in parity.findings if found.severity == "error" and found.check == "answers"]
    assert any("W4A16" in found.where and "--source" in found.fix for found in failed)


def test_a_silent_vocoder_is_heard(damaged, reference):
    """Text, codes and their divergences are the original's; only the sound is not."""
    parity = against(reference, damaged("vocoder_silent"))
    assert {row.state for row in parity.agreements} == {"pass"}
    assert parity.verdict.state == "fail"
    assert all("waveforms" in found.found and "code2wav" in found.fix for found in parity.findings)
