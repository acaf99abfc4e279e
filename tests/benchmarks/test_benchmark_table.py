"""The table of docs/benchmarks.md comes from a JSON file of pytest-benchmark, and says what the figures rest on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.tiny

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "table.py"


def benchmark(name: str, group: str, param: str | None = None, **extra: object) -> dict:
    return {"name": name, "group": group, "param": param, "extra_info": extra}


def table(tmp_path: Path, benchmarks: list[dict]) -> subprocess.CompletedProcess[str]:
    run = {
        "machine_info": {"cpu": {"brand_raw": "A CPU"}},
        "datetime": "2026-11-24T10:00:00+00:00",
        "benchmarks": benchmarks,
    }
    (tmp_path / "run.json").write_text(json.dumps(run))
    command = [sys.executable, str(SCRIPT), str(tmp_path / "run.json")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_rows_name_device_baseline_ratio_and_versions(tmp_path: Path) -> None:
    common = {"device": "x86_64 CPU, 2 cores", "versions": {"python": "3.11.7"}}
    start = {**common, "unit": "ms", "figure": 375.04, "baseline": "plain", "baseline_figure": 369.0, "ratio": 0.984}
    write = {**common, "unit": "tokens/s", "figure": 245.4, "baseline": "BF16", "baseline_figure": 446.2, "ratio": 0.55}
    hardware = {**common, "device": "a GPU", "versions": {"torch": "2.14"}, "unit": "tokens/s", "figure": 13.44}
    found = table(tmp_path, [
        benchmark("test_write[w4a4]", "writing", "w4a4", **write), benchmark("test_a", "answering", **hardware),
        benchmark("test_start", "start", **start), benchmark("test_other", "not ours"),
    ])  # fmt: skip
    assert found.stdout.splitlines() == [
        "A CPU (x86_64 CPU, 2 cores; a GPU), 2026-11-24. Medians.",
        "",
        "| what | here | baseline | baseline's | ratio |",
        "|---|---:|---|---:|---:|",
        "| answering | 13.4 tokens/s |  |  |  |",
        "| start | 375 ms | plain | 369 ms | 0.98x (+6.0 ms) |",
        "| writing, w4a4 | 245 tokens/s | BF16 | 446 tokens/s | 0.55x |",
        "",
        "Versions: python 3.11.7, torch 2.14.",
    ]


def test_a_file_without_figures_is_refused_with_the_command_that_makes_some(tmp_path: Path) -> None:
    found = table(tmp_path, [benchmark("test_other", "not ours")])
    assert found.returncode == 1
    assert "no figure in it; make one with: pytest -m tiny --benchmark-only --benchmark-json=FILE" in found.stderr
