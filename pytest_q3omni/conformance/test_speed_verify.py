"""How fast the judge reads, on this machine. Skipped unless asked for: `--benchmark-only`.

The checkpoint is made up: the tiny model's config with sixteen experts whose matrices have as many weights as the
full-size model's, filled with random numbers, and packed. 305 MB in BF16, 88 MB packed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pytest_q3omni import api
from pytest_q3omni.conformance._speed import Baseline, gigabytes_per_second, measure

pytestmark = pytest.mark.tiny

_EXPERTS, _INNER = 16, 12_288  # of width 128: as many weights as 768 x 2048
_RECIPE = "nvfp4-mlp-weight-only"  # needs no calibration


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A BF16 checkpoint of random weights with the tiny model's companions."""
    from pytest_q3omni.omni.tiny import checkpoint_path

    weights = shutil.ignore_patterns("*.safetensors")
    path = Path(shutil.copytree(checkpoint_path(), tmp_path / "source", ignore=weights))
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    config["thinker_config"]["text_config"] |= {"num_experts": _EXPERTS, "moe_intermediate_size": _INNER}
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    _write_weights(path / "model.safetensors", config)
    return path


def _write_weights(file: Path, config: dict[str, Any]) -> None:
    import ml_dtypes
    import numpy as np

    from pytest_q3omni.omni.safetensors_file import layout, nbytes
    from pytest_q3omni.omni.stages import expected_tensors

    planned, random = layout(expected_tensors(config, str(file))), np.random.default_rng(0)
    with file.open("wb") as stream:
        stream.write(planned.header)
        for tensor in planned.tensors:
            values = random.standard_normal(nbytes(tensor) // 2, np.float32) * np.float32(0.02)
            stream.write(values.astype(ml_dtypes.bfloat16).tobytes())


@pytest.mark.benchmark(group="verify with the source")
def test_verify(benchmark: Any, source: Path, tmp_path: Path) -> None:
    """Against sha256 of the same files, which reads every byte, too, and is what one runs after a copy anyway.

    Both read from the page cache: what is compared is the work, not the disk. The judge packs the source again in
    memory and compares bytes, besides its other checks.
    """
    packed = api.quantize(source, tmp_path / "packed", recipe=_RECIPE).judgement.checkpoint
    files = sorted(file for folder in (source, Path(packed)) for file in folder.glob("*.safetensors"))
    total = sum(file.stat().st_size for file in files)

    def checksums() -> None:
        for file in files:
            with file.open("rb", buffering=0) as stream:
                hashlib.file_digest(stream, "sha256")

    judgement = measure(
        benchmark, lambda: api.verify(packed, source=source),
        Baseline("sha256 of the same files (hashlib)", checksums), gigabytes_per_second(total),
        rounds=7, packages=("numpy", "ml_dtypes", "numba"), bytes=total, files=len(files),
    )  # fmt: skip
    states = {name: judgement.verdict(name).state for name in ("packed", "consistent", "faithful")}
    assert states == {"packed": "pass", "consistent": "pass", "faithful": "pass"}
