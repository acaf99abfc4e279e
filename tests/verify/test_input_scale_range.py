"""Input scales without a record: 100 times off in either direction is found in every place, natural spread is not."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from _checkpoint_edit import read, scaled, write
from sound_checkpoints import SoundCheckpoint, judged

from pytest_q3omni.omni.checkpoint import scan
from pytest_q3omni.omni.naming import input_site
from pytest_q3omni.records import Finding

pytestmark = pytest.mark.tiny

LAYERS = [f"thinker.model.layers.{layer}" for layer in (0, 1)]
SITES = ["self_attn.qkv_proj", "self_attn.o_proj", "mlp.experts.gate_up_proj", "mlp.experts.down_proj"]


@pytest.fixture
def directory(sound: SoundCheckpoint, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound("nvfp4-default"), tmp_path / "checkpoint"))


def scales_of(directory: Path, *sites: str) -> list[str]:
    names = [name for name in scan(directory).entries if name.endswith(".input_scale")]
    return [name for name in names if input_site(name.removesuffix(".input_scale")) in sites]


def found(directory: Path, severity: str = "error") -> list[Finding]:
    findings = [finding for finding in judged(directory, ()).findings if finding.severity == severity]
    return [finding for finding in findings if finding.check == "input-scale-range"]


@pytest.mark.parametrize("factor", [100, 1 / 100])
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("layer", LAYERS)
def test_a_hundred_times_off_is_found(layer: str, site: str, factor: float, directory: Path) -> None:
    names = scales_of(directory, f"{layer}.{site}")
    scaled(directory, names, factor)
    (error,) = found(directory)
    assert error.where in names
    assert not [finding for finding in judged(directory, ()).findings if finding.check != error.check]


@pytest.mark.parametrize("factor", [2688, 448, 6 * 6, 1 / 448, 1 / 2688])
def test_a_wrong_unit_everywhere_is_found(factor: float, directory: Path) -> None:
    scaled(directory, scales_of(directory, *(f"{layer}.{site}" for layer in LAYERS for site in SITES)), factor)
    assert {input_site(error.where.removesuffix(".input_scale")) for error in found(directory)} >= {
        f"{layer}.{site}" for layer in LAYERS for site in ("self_attn.qkv_proj", "mlp.experts.gate_up_proj")
    }


@pytest.mark.parametrize("seed", range(5))
def test_a_spread_of_four_either_way_is_natural(seed: int, directory: Path) -> None:
    random = np.random.default_rng(seed)
    for layer in LAYERS:
        for site in SITES:
            names = scales_of(directory, f"{layer}.{site}")
            factor = np.float32(2 ** random.uniform(-1, 2))
            write(directory, {name: read(directory, name) * factor for name in names})
    assert not found(directory)
    assert not found(directory, "warning")
