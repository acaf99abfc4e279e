"""How fast the judge opens a checkpoint of full size. Skipped unless asked for: `--benchmark-only`.

The files are as large as the real ones, 83,882 tensors in 28 GB, and take no room: headers are written, data are not.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from pytest_q3omni.conformance._speed import MILLISECONDS, Baseline, measure

pytestmark = pytest.mark.tiny

_RECIPE = "nvfp4-default"


@pytest.fixture(params=["modelopt", "compressed-tensors"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Config, index and headers of the full-size model, packed; the data are holes in the files."""
    from pytest_q3omni.layouts import layout
    from pytest_q3omni.omni.safetensors_file import layout as laid_out
    from pytest_q3omni.plan.build import build_plan

    config = Path(str(files("pytest_q3omni.omni") / "qwen3_omni_30b_config.json"))
    plan = build_plan(config, _RECIPE, layout_name=request.param)
    content = json.loads(config.read_text(encoding="utf-8"))
    content["quantization_config"] = layout(request.param).quantization_config(plan)
    (tmp_path / "config.json").write_text(json.dumps(content), encoding="utf-8")
    for shard in plan.shards:
        written = laid_out(shard.tensors)
        with (tmp_path / shard.file).open("wb") as stream:
            stream.write(written.header)
            stream.truncate(len(written.header) + written.data_bytes)
    weight_map = {tensor.name: shard.file for shard in plan.shards for tensor in shard.tensors}
    index = {"metadata": {"total_size": plan.tensor_bytes}, "weight_map": weight_map}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return tmp_path


@pytest.mark.benchmark(group="opening full size")
def test_headers(benchmark: Any, checkpoint: Path) -> None:
    """Headers, index and config read, and every check that needs no more, with the sizes, against `json.loads` of the
    same headers."""
    from pytest_q3omni.omni.checkpoint import scan
    from pytest_q3omni.omni.safetensors_file import no_collection
    from pytest_q3omni.verify.checks import checks
    from pytest_q3omni.verify.facts import facts
    from pytest_q3omni.verify.subject import Subject

    asked = [check for check in checks() if check.reads == "headers" and not check.needs and check.name not in _FILES]
    headers = [_header(file) for file in sorted(checkpoint.glob("*.safetensors"))]

    def judge() -> tuple[list[Any], int]:
        with no_collection():  # as `judge` does
            subject = Subject(scan(checkpoint))
            found = [finding for check in asked for finding in check.run(subject) if finding.severity == "error"]
            return found, facts(subject).tensor_bytes

    faults, stored = measure(
        benchmark, judge, Baseline("json.loads of the same headers", lambda: [*map(json.loads, headers)]), MILLISECONDS,
        rounds=7, packages=("numpy",), bytes=sum(map(len, headers)), tensors=len(Subject(scan(checkpoint)).entries),
        checks=len(asked),
    )  # fmt: skip
    assert not faults
    assert stored == 27_542_850_146 or "compressed" in str(scan(checkpoint).config["quantization_config"])


_FILES = ("tokenizer", "chat-template", "companions", "model-card")  # judge files beside the weights: there are none


def _header(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(int.from_bytes(stream.read(8), "little"))
