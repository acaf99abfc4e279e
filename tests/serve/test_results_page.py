"""docs/results.py: a run becomes data, data becomes pages and plots, the same each time. The runs here are made up."""

import copy
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from made_up_run import DEVICE, RATES, row, run

pytestmark = pytest.mark.tiny

DOCS = Path(__file__).parents[2] / "docs"
NAME = "made-up-device-9000"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("results_script", DOCS / "results.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = before


@pytest.fixture
def distilled(script: ModuleType) -> dict[str, Any]:
    found: dict[str, Any] = script.distil(run())
    return found


def lines(page: str, head: str) -> list[str]:
    return [line for line in page.splitlines() if line.startswith(f"| {head}")]


def test_what_is_in_the_repository_is_rendered(script: ModuleType) -> None:
    """Pages are those of the data, every plot has its data, and made-up runs stay out."""
    found = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(script.DATA.glob("*.json"))}
    again = "out of date. Fix: python docs/results.py"
    assert script.PAGE.read_text(encoding="utf-8") == script.page(found), again
    readme = script.README.read_text(encoding="utf-8")
    assert script.with_block(readme, script.short(found)) == readme, again
    assert sorted(file.stem for file in script.DATA.glob("*.svg")) == sorted(script.with_points(found)), again
    assert all(script.file_of(result["device"]).stem == name for name, result in found.items())
    assert not any("made-up" in name for name in found)


def test_a_run_is_distilled(script: ModuleType, distilled: dict[str, Any]) -> None:
    assert distilled["device"] == DEVICE
    assert script.file_of(DEVICE).name == f"{NAME}.json"
    assert distilled["date"] == "2020-02-02"
    assert [(p["kind"], p.get("at_once"), p.get("prompt_tokens")) for p in distilled["points"]] == [
        ("load", None, None),
        ("first token", 1, 128),
        *(("decode", at_once, 128) for at_once in RATES["original"]),
        ("prefill", 1, 512),
        ("prefill", 1, 8192),
    ]
    assert distilled["quantized"]["numerics"] == "w4a4"
    assert json.loads(json.dumps(distilled)) == distilled
    shuffled = run()
    shuffled["benchmarks"].reverse()
    assert script.distil(shuffled)["points"] == distilled["points"]


def test_the_table_has_medians_spread_ratio_and_per_cent(script: ModuleType, distilled: dict[str, Any]) -> None:
    page = script.page({NAME: distilled})
    assert lines(page, "decode at 8") == [
        "| decode at 8 (128 in, 256 out), tokens/s | 100 (98 to 102) | 250 (245 to 255) | 2.50x | 25 % | 80 % |"
    ]
    assert lines(page, "weights in memory") == ["| weights in memory | 60.00 GiB | 20.00 GiB | 3.00x |  |  |"]
    assert lines(page, "time to first token")[0].split(" | ")[3] == "1.25x"  # shorter is faster
    assert lines(page, "between tokens at 64") == [
        "| between tokens at 64, ms, p50 / p95 / p99 | 213 / 7 / 8 | 71.1 / 7 / 8 |  |  |  |"
    ]
    assert len(lines(page, "prefill")) == 2
    assert page.count("made-up hint") == 1
    hint = next(line for line in page.splitlines() if "made-up hint" in line)
    assert hint.startswith("- BF16 at 1, BF16 at 8, BF16 at 32, BF16 at 64, BF16 prefill 512, BF16 prefill 8192: ")
    assert "MadeUpLinear (192); experts: MadeUpExperts (48); attention: MADE_UP (48); CUDA graphs: FULL" in page


def test_random_weights_are_said_everywhere(script: ModuleType) -> None:
    for weights, said in (("random", True), ("real", False)):
        result = script.distil(run(weights=weights))
        assert ("**Random weights**" in script.page({NAME: result})) is said
        assert ("**Random weights**" in script.short({NAME: result})) is said


def test_the_readme_block(script: ModuleType, distilled: dict[str, Any]) -> None:
    block = script.short({NAME: distilled})
    assert f"](docs/results/{NAME}.svg)" in block
    assert len(lines(block, "decode at")) == 4
    assert "between tokens" not in block
    text = f"before\n{script.BEGIN}\nold\n{script.END}\nafter\n"
    rendered = script.with_block(text, block)
    assert "old" not in rendered
    assert rendered.startswith(f"before\n{script.BEGIN}\n")
    assert rendered.endswith(f"{script.END}\nafter\n")
    assert script.with_block(rendered, block) == rendered
    with pytest.raises(SystemExit, match="lacks the marks"):
        script.with_block("no marks here", block)


def test_without_a_roofline_nothing_is_made_up(script: ModuleType) -> None:
    made = run()
    for one in made["benchmarks"]:
        one["extra_info"]["roofline"] = None
    page = script.page({NAME: script.distil(made)})
    assert lines(page, "decode at 8")[0].endswith("| 2.50x |  |  |")
    assert "look at first" not in page


def test_no_data_is_said(script: ModuleType) -> None:
    assert "No run on hardware is recorded yet." in script.page({})
    assert script.short({}) == ""


def broken(change: Any) -> dict[str, Any]:
    made = copy.deepcopy(run())
    change(made["benchmarks"])
    return made


BROKEN = [
    (lambda rows: rows.clear(), "no serving benchmark"),
    (lambda rows: rows.pop(0), "load: the original is missing"),
    (lambda rows: rows[2]["extra_info"].update(device="another"), "more than one device"),
    (lambda rows: rows[2]["extra_info"].update(weights="real"), "more than one weights"),
    (lambda rows: rows[2]["extra_info"].update(versions={"vllm": "0"}), "more than one versions"),
    (lambda rows: rows.append(copy.deepcopy(rows[2])), "decode 1 128 is measured twice for the original"),
    (lambda rows: rows.__setitem__(slice(None), [row(h, "load", 1.0) for h in RATES]), "no decode point"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_a_run_that_is_no_comparison_is_refused(script: ModuleType, change: Any, message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        script.distil(broken(change))


def test_the_plot_is_the_same_each_time(script: ModuleType, distilled: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    first, second, other = (tmp_path / f"{name}.svg" for name in ("first", "second", "other"))
    script.draw(distilled, first)
    script.draw(distilled, second)
    assert first.read_bytes() == second.read_bytes()
    text = first.read_text(encoding="utf-8")
    assert "<dc:date>" not in text
    assert text.count("stroke-dasharray") >= 2  # two rooflines
    changed = copy.deepcopy(distilled)
    next(p for p in changed["points"] if p["kind"] == "decode")["quantized"]["figures"] = [11.0]
    script.draw(changed, other)
    assert other.read_bytes() != first.read_bytes()


def test_the_plot_says_random_weights(script: ModuleType, distilled: dict[str, Any]) -> None:
    plot = sys.modules["results_plot"]
    assert plot._title(distilled).endswith("128 tokens in, 256 out, random weights")
    assert "random" not in plot._title({**distilled, "weights": "real"})


def test_a_device_without_a_roofline_is_drawn(script: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    made = run()
    for one in made["benchmarks"]:
        one["extra_info"].pop("roofline", None)
    script.draw(script.distil(made), tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").stat().st_size > 1000
