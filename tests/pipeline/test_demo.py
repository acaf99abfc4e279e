"""The demo: the whole way on the built-in model."""

import json
from pathlib import Path

import pytest

from pytest_q3omni import api
from pytest_q3omni.errors import InvalidRequest

pytestmark = pytest.mark.tiny


def test_the_whole_way_and_once_more(tmp_path: Path) -> None:
    """Every verdict that needs no serving engine passes; a second run replaces what the first made and nothing else."""
    pytest.importorskip("torch", reason="needs the quantize extra: pip install 'pytest-q3omni[quantize]'")
    seen: dict[str, int] = {}
    made = api.demo(tmp_path / "demo", progress=lambda what, done, total: seen.__setitem__(what, done))
    states = {verdict.name: verdict.state for verdict in made.judgement.verdicts}
    assert [states[name] for name in ("packed", "consistent", "faithful", "calibrated", "agrees")] == ["pass"] * 5
    assert made.record is not None
    assert made.record.samples_passed == made.record.samples_total == 60
    assert {"calibrating", "packing", "BF16", "plain W4A4", "W4A4 speech"} <= set(seen)
    assert made.parity is not None
    assert made.parity.quantized == made.judgement.checkpoint == str(tmp_path / "demo/quantized")
    assert json.loads((tmp_path / "demo/quantized/config.json").read_text())["quantization_config"]
    page = (tmp_path / "demo/report.html").read_text()
    assert "Tokens per expert" in page
    assert "Answers beside the original" in page

    (tmp_path / "demo/notes.txt").write_text("mine")
    (tmp_path / "demo/quantized/model.safetensors").write_bytes(b"damaged")
    again = api.demo(tmp_path / "demo")
    assert not again.judgement.failed
    assert (tmp_path / "demo/notes.txt").read_text() == "mine"


def test_somebody_elses_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "original").mkdir()
    (tmp_path / "original" / "model.bin").write_text("precious")
    with pytest.raises(InvalidRequest, match="holds something else"):
        api.demo(tmp_path)
    assert (tmp_path / "original" / "model.bin").read_text() == "precious"
