"""The table of serving benchmarks: both halves side by side, one half alone, and whose weights they were."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_q3omni.report.serving import RANDOM, render_serving

pytestmark = pytest.mark.tiny

KERNELS = {"linear": {"MarlinLinear": 96}, "experts": {"MARLIN": 48}, "attention": {"FLASH_ATTN": 48}}


def row(half: str = "original", what: str = "decode at 8", **options: Any) -> dict[str, Any]:
    """`extra_info` of one benchmark."""
    load = what == "load"
    known = {
        "what": what, "marker": "gpu", "checkpoint": half, "unit": "s" if load else "tokens/s", "figure": 100.0,
        "numerics": "bf16" if half == "original" else "w4a4", "weights": "real", "engine": "vLLM",
        "device": "NVIDIA H100", "versions": {"vllm": "0.26.0"}, "weight_bytes": 60 << 30,
        "kernels": {**KERNELS, "cuda_graphs": "full", "expert_tuning": ""},
    }  # fmt: skip
    rounds = {} if load else {"spread": [98.0, 103.5], "inter_token_ms": {"p50": 9.5, "p95": 11.25, "p99": 12.0}}
    return {**known, **rounds, **options}


def pair(**options: Any) -> list[dict[str, Any]]:
    return [row(**options), row("quantized", figure=170.0, spread=[165.0, 175.0], ratio=1.7, **options)]


def cells(shown: str, begin: str) -> list[str]:
    """The cells of the row that begins so."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if line.startswith("│")]
    (found,) = [cells for cells in rows if cells[0] == begin]
    return found


def test_both_halves_stand_side_by_side_with_their_spread() -> None:
    shown = render_serving(pair())
    assert shown.startswith("serving on NVIDIA H100, vLLM 0.26.0")
    assert cells(shown, "decode at 8") == [
        "decode at 8", "100.0 tok/s (-2.0 +3.5)", "170.0 tok/s (-5.0 +5.0)", "1.70x", "",
    ]  # fmt: skip
    assert cells(shown, "to the next: p50/p95/p99")[1:] == ["9.5 / 11.2 / 12.0 ms", "9.5 / 11.2 / 12.0 ms", "", ""]


def test_loading_tells_the_memory_too() -> None:
    rows = [row(what="load"), row("quantized", "load", figure=40.0, weight_bytes=18 << 30, memory_ratio=3.33)]
    shown = render_serving(rows)
    assert cells(shown, "load")[1:3] == ["100.0 s", "40.0 s"]
    assert cells(shown, "weights in memory")[1:4] == ["60.00 GiB", "18.00 GiB", "3.33x"]


@pytest.mark.parametrize("half", ["original", "quantized"])
@pytest.mark.parametrize("what", ["load", "decode at 8"])
def test_one_half_alone_is_shown_and_the_other_is_said_to_be_missing(half, what) -> None:
    shown = render_serving([row(half, what)])
    found = cells(shown, what)
    measured, missing = (1, 2) if half == "original" else (2, 1)
    assert found[measured].startswith("100.0 ")
    assert found[missing] == "not measured"
    assert found[3:] == ["", ""], "no ratio to what was not measured"


def test_kernels_of_both_halves_are_named() -> None:
    rows = pair()
    rows[1]["kernels"] = {"linear": {"EMULATION": 4}, "experts": {}, "attention": {}, "cuda_graphs": "none",
                          "expert_tuning": "E=128,N=768.json"}  # fmt: skip
    lines = render_serving(rows).splitlines()
    assert (
        "original (bf16): linear MarlinLinear x96; experts MARLIN x48; attention FLASH_ATTN x48; CUDA graphs full"
        in lines
    )
    assert "quantized (w4a4): linear EMULATION x4; eager, no CUDA graphs; experts tuned by E=128,N=768.json" in lines


def test_random_weights_are_labelled_and_real_ones_are_not() -> None:
    assert RANDOM in render_serving(pair(weights="random"))
    assert RANDOM in render_serving([row(), row("quantized", weights="random")])
    assert "andom" not in render_serving(pair())


def test_percents_of_the_roofline_and_its_hints_once() -> None:
    hint = "eager mode: start without --enforce-eager"
    rows = [
        row(what=what, roofline={"percent": percent, "look_first": [hint]})
        for what, percent in (("decode at 1", 61.4), ("decode at 8", 7.6))
    ]
    rows += [row("quantized", "decode at 8", roofline={"percent": 30.2, "look_first": [hint, "another"]})]
    shown = render_serving(rows)
    assert cells(shown, "decode at 1")[-1] == "61 %"
    assert cells(shown, "decode at 8")[-1] == "8 % / 30 %"
    assert shown.count(hint) == 1
    assert "look first: another" in shown.splitlines()


def test_a_roofline_that_is_missing_says_why_once() -> None:
    why = "no roofline: the bandwidth of this device is not known"
    shown = render_serving(pair(roofline={}, roofline_missing=why))
    assert shown.count(why) == 1
    assert cells(shown, "decode at 8")[-1] == ""


def test_every_marker_has_a_table_of_its_own() -> None:
    shown = render_serving([*pair(), *pair(marker="tiny", device="a CPU", engine="transformers 5.19")])
    assert shown.index("serving on NVIDIA H100, vLLM") < shown.index("serving on a CPU, transformers 5.19")
    assert shown.count("decode at 8") == 2


def test_names_of_strangers_are_written_out() -> None:
    evil = "\x1b[2J\u202eevil"
    rows = pair(device=evil, numerics=evil)
    rows[0]["kernels"] = {**rows[0]["kernels"], "linear": {evil: 1}, "expert_tuning": evil}
    rows[0]["what"] = rows[1]["what"] = f"decode {evil}"
    rows[0]["roofline"] = {"percent": 5.0, "look_first": [f"[bold]{evil}"]}
    shown = render_serving(rows, width=200)
    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown
    assert "\\x1b[2J\\u202eevil" in shown
    assert "[bold]" in shown, "no markup is obeyed"


def test_in_a_narrow_terminal_no_figure_is_cut() -> None:
    shown = render_serving(pair(), width=120)
    assert max(map(len, shown.splitlines())) <= 120
    assert "100.0 tok/s (-2.0 +3.5)" in shown
