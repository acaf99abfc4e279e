"""How fast the judge reads, on this machine. Skipped unless asked for: `--benchmark-only`.

The checkpoint is made up: the tiny model's config with sixteen experts as large as the full-size model's, filled with
random numbers, and packed. 315 MB in BF16, 98 MB packed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_q3omni import api
from pytest_q3omni.conformance._speed import Baseline, expert_weight, gigabytes_per_second, measure

if TYPE_CHECKING:
    from pytest_q3omni.verify.subject import Packed, Subject

pytestmark = pytest.mark.tiny

_EXPERTS, _INNER, _WIDTH = 16, 768, 2048
_PACKAGES = ("numpy", "ml_dtypes", "numba")
_RECIPE = "nvfp4-mlp-weight-only"  # needs no calibration


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A BF16 checkpoint of random weights with the tiny model's companions."""
    from pytest_q3omni.omni.tiny import checkpoint_path

    weights = shutil.ignore_patterns("*.safetensors")
    path = Path(shutil.copytree(checkpoint_path(), tmp_path / "source", ignore=weights))
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    thinker, experts = config["thinker_config"], {"num_experts": _EXPERTS, "moe_intermediate_size": _INNER}
    thinker["text_config"] |= {**experts, "hidden_size": _WIDTH}
    thinker["vision_config"]["out_hidden_size"] = thinker["audio_config"]["output_dim"] = _WIDTH
    config["talker_config"]["thinker_hidden_size"] = _WIDTH
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


@pytest.fixture
def packed(source: Path, tmp_path: Path) -> Path:
    """The checkpoint packed."""
    return Path(api.quantize(source, tmp_path / "packed", recipe=_RECIPE).judgement.checkpoint)


@pytest.mark.benchmark(group="verify with the source")
def test_verify(benchmark: Any, source: Path, packed: Path) -> None:
    """Against sha256 of the same files, which reads every byte, too, and is what one runs after a copy anyway.

    Both read from the page cache: what is compared is the work, not the disk. The judge packs the source again in
    memory and compares bytes, besides its other checks.
    """
    files = sorted(file for folder in (source, packed) for file in folder.glob("*.safetensors"))
    total = sum(file.stat().st_size for file in files)

    def checksums() -> None:
        for file in files:
            with file.open("rb", buffering=0) as stream:
                hashlib.file_digest(stream, "sha256")

    judgement = measure(
        benchmark, lambda: api.verify(packed, source=source),
        Baseline("sha256 of the same files (hashlib)", checksums), gigabytes_per_second(total),
        rounds=7, packages=_PACKAGES, bytes=total, files=len(files),
    )  # fmt: skip
    states = {name: judgement.verdict(name).state for name in ("packed", "consistent", "faithful")}
    assert states == {"packed": "pass", "consistent": "pass", "faithful": "pass"}


@pytest.mark.benchmark(group="comparing files with the source")
def test_comparing_files(benchmark: Any, source: Path, packed: Path, tmp_path: Path) -> None:
    """Every tensor beside its source, error per block included, against packing those files again.

    Both rates count the bytes of the source; packing syncs what it writes to disk.
    """
    from pytest_q3omni.omni.checkpoint import open_checkpoint
    from pytest_q3omni.pack.write import write_checkpoint
    from pytest_q3omni.plan.build import build_plan
    from pytest_q3omni.verify.checks import kept_tensors, packed_weights

    files, turn = open_checkpoint(source), count()
    plan, total = build_plan(source, _RECIPE), sum(file.stat().st_size for file in files.files)

    def again() -> None:
        write_checkpoint(files, plan, tmp_path / f"again-{next(turn)}")

    def compare() -> list[Any]:
        subject = _subject(packed, source)
        return [fault for check in (kept_tensors, packed_weights) for fault in check.CHECK.find(subject)]

    faults = measure(
        benchmark, compare, Baseline("packing the same files", again), gigabytes_per_second(total),
        rounds=7, packages=_PACKAGES, bytes=total,
    )  # fmt: skip
    for folder in tmp_path.glob("again-*"):
        shutil.rmtree(folder)
    assert not faults


@pytest.mark.benchmark(group="comparing with the source")
def test_comparing(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One expert in memory, on one core, against packing it on one core: what the arithmetic costs."""
    from pytest_q3omni.nvfp4 import pack_tensor
    from pytest_q3omni.nvfp4.kernels import threads
    from pytest_q3omni.nvfp4.rederive import Rederived

    monkeypatch.setattr(threads, "cores", lambda: 1)
    weight = expert_weight()
    packed = pack_tensor(weight)

    def compare() -> Rederived:
        result = Rederived(weight.shape[1], packed.global_scale)
        result.add(weight, packed)
        return result

    found = measure(
        benchmark, compare, Baseline("pack_tensor of the same weight", lambda: pack_tensor(weight)),
        gigabytes_per_second(weight.nbytes), rounds=50, packages=_PACKAGES, bytes=weight.nbytes, shape=weight.shape,
    )  # fmt: skip
    assert not found.differing
    assert 0.09 < found.errors.relative < 0.1


def _subject(packed: Path, source: Path | None = None) -> Subject:
    """The checkpoint under judgement, with what all checks share read already."""
    from pytest_q3omni.omni.checkpoint import open_checkpoint, scan
    from pytest_q3omni.verify.subject import Subject

    subject = Subject(scan(packed), source=None if source is None else open_checkpoint(source))
    assert all(subject.global_scale(module) for module in subject.packed.values())
    return subject


def _reading(subject: Subject, modules: list[Packed]) -> Baseline:
    """Reading the block scales of modules into one buffer, tensor by tensor."""
    import numpy as np

    entries = [subject.entries[module.block_scale] for module in modules]
    buffer = np.empty(max(entry.end - entry.begin for entry in entries), np.uint8)

    def read() -> None:
        for entry in entries:
            subject.checkpoint.read(entry.info.name, buffer)

    return Baseline("reading the same bytes, tensor by tensor", read)


def _block_scales(subject: Subject) -> Iterator[Any]:
    from pytest_q3omni.verify.checks.block_scales import CHECK

    return CHECK.find(subject)


def _ranges_of_inputs(subject: Subject) -> Iterator[Any]:
    """Of every expert, where the check takes a sample."""
    from pytest_q3omni.verify.activations import Activations

    activations = Activations(subject)
    return filter(None, [activations.range_of(module) is None for module in subject.packed.values()])


@pytest.mark.benchmark(group="checking scales")
@pytest.mark.parametrize("check", [_block_scales, _ranges_of_inputs], ids=["block scales", "ranges of inputs"])
def test_scales(benchmark: Any, check: Callable[[Subject], Iterator[Any]], packed: Path) -> None:
    """Rates count the bytes of the scales that are looked at."""
    subject = _subject(packed)
    modules = list(subject.packed.values())
    if check is _ranges_of_inputs:
        modules = [module for module in modules if not module.module.endswith("down_proj")]
    total = sum(out * inner // 16 for *_, (out, inner) in modules)
    faults = measure(
        benchmark, lambda: list(check(subject)), _reading(subject, modules), gigabytes_per_second(total),
        rounds=30, packages=("numpy", "ml_dtypes"), bytes=total, tensors=len(modules),
    )  # fmt: skip
    assert not faults
