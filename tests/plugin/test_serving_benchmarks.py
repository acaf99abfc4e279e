"""The serving benchmarks as a user runs them, on scripted engines: order, table, JSON, gates, and engines that fail."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_q3omni.serve.throughput import AT_ONCE, FULL_POINTS, PREFILLS, ROUNDS, TINY_POINTS

pytestmark = pytest.mark.tiny

for _name in ("PIL", "soundfile"):
    pytest.importorskip(_name, reason="needs the quantize extra: pip install pytest-q3omni[quantize]")

# quantized twice as fast and in a third of the memory; `SCRIPT` changes it, by the half's name
CONFTEST = """
import json
from pathlib import Path
from pytest_q3omni.engines import device
from pytest_q3omni.engines.fake_serving import FakeServing
from pytest_q3omni.engines.serving import Generated, Kernels, PromptLogprobs
from pytest_q3omni.errors import EngineError, MissingDependency
from pytest_q3omni.plugin import serving

SCRIPT = {script!r}
HERE = Path(__file__).parent
KERNELS = Kernels({{"MarlinLinear": 4}}, {{"MARLIN": 2}}, {{"FLASH_ATTN": 2}}, "full")
device.probe = lambda: device.Devices(cuda={cuda!r}, why_none="no CUDA device found (pretended)")


class Log(list):
    def append(self, line):
        with (HERE / "log.txt").open("a") as stream:
            stream.write(line + "\\n")


class Engine(FakeServing):
    calls = 0

    def load(self):
        if "load" in self.script.get("dies", ()):
            self.log.append("try " + self.path.name)
            raise EngineError("ended with code 3 during `load`. Its last lines: no kernel", where="a fake")
        return super().load()

    def generate(self, prompts, max_new_tokens, *, past_the_end=False):
        if past_the_end and len(prompts) in self.script.get("dies", ()):
            self.close()
            self.script["dies"] = []
            raise EngineError("was ended by signal 9 (Killed)", where="a fake", fix="take less")
        made = super().generate(prompts, max_new_tokens, past_the_end=past_the_end)
        mute = self.script.get("mute") and not past_the_end
        return [Generated((), ()) for _ in made] if mute else made


def open_engine(served, tiny):
    script = SCRIPT.setdefault(served.half, {{}})
    if "missing" in script:
        raise MissingDependency("no vLLM", expected="an environment with vLLM", fix="make one")
    quantized, scale = served.half == "quantized", script.get("slower", 1)

    def likely(prompt):
        most = (7,) * len(prompt.reply) if script.get("garbage") else prompt.reply
        return PromptLogprobs(prompt.reply, (-1.0,) * len(prompt.reply), most)

    times = {{"first": 0.05 * scale / (1 + quantized), "between": 0.01 * scale / (1 + quantized)}}
    made = Engine(
        served.half, logprobs=likely, weights=served.weights, kernels=KERNELS, device="NVIDIA H100 80GB HBM3",
        capability=(9, 0), weight_bytes=script.get("bytes", (3 << 30) // (1 + 2 * quantized)), log=Log(), **times)
    made.script = script
    made.log.append(f"make {{served.half}} {{served.weights}} {{served.numerics}} {{served.path.name}} tiny={{tiny}}")
    return made


serving.open_engine = open_engine
"""
HOPPER = (("NVIDIA H100", (9, 0)),)
SUITE = ["-p", "no:cacheprovider", "--pyargs", "pytest_q3omni.conformance.test_speed_serving", "-rs"]
RANDOM = "--q3omni-random-weights"


@pytest.fixture
def bench(pytester, tiny_cache):
    """Run the benchmarks with scripted engines: `original` and `quantized` say how theirs differ."""

    def run(*arguments: str, cuda: Any = (), **script: Mapping[str, Any]) -> pytest.RunResult:
        pytester.makeconftest(CONFTEST.format(script=script, cuda=cuda))
        pytester.path.joinpath("log.txt").unlink(missing_ok=True)
        result = pytester.runpytest_subprocess(*SUITE, tiny_cache, *arguments)
        assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
        return result

    return run


@pytest.fixture
def log(pytester):
    """What the engines did, in its order."""
    return lambda: pytester.path.joinpath("log.txt").read_text().splitlines()


def rows(pytester: pytest.Pytester) -> dict[tuple[str, str], dict[str, Any]]:
    """`extra_info` of `--benchmark-json=out.json` by half and what was measured."""
    found = json.loads(pytester.path.joinpath("out.json").read_text())["benchmarks"]
    return {(one["extra_info"]["checkpoint"], one["extra_info"]["what"]): one["extra_info"] for one in found}


def cells(result: pytest.RunResult, begin: str) -> list[str]:
    found = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.outlines if line.startswith("│")]
    (mine,) = [one for one in found if one[0] == begin]
    return mine


TINY = ["-m", "tiny", "--benchmark-only"]
GPU = ["-m", "gpu", "--benchmark-only", RANDOM]


def test_the_original_comes_first_and_each_engine_opens_once(bench, log) -> None:
    result = bench(*TINY)
    result.assert_outcomes(passed=2 * (1 + len(TINY_POINTS)), deselected=4 * (1 + len(FULL_POINTS)))
    made = [line for line in log() if line.startswith("make")]
    assert [line.split()[1:4] for line in made] == [["original", "real", "bf16"], ["quantized", "real", "w4a4"]]
    assert all(line.endswith("tiny=True") for line in made)
    rest = [line for line in log() if not line.startswith("make")]
    assert rest == ["load original", "close original", "load quantized", "close quantized"], "closed at the end, too"


def test_the_summary_shows_both_halves_side_by_side(bench) -> None:
    result = bench(*TINY)
    result.stdout.fnmatch_lines(["*= q3omni serving =*", "serving on NVIDIA H100 80GB HBM3, fake*"])
    assert cells(result, "decode at 4")[3] == "2.00x"
    assert cells(result, "first token of 16 tokens")[1:4] == ["50.0 ms (-0.0 +0.0)", "25.0 ms (-0.0 +0.0)", "2.00x"]
    assert cells(result, "weights in memory")[1:4] == ["3.00 GiB", "1.00 GiB", "3.00x"]
    assert "original (bf16): linear MarlinLinear x4; experts MARLIN x2; attention FLASH_ATTN x2; CUDA graphs full" in (
        result.outlines
    )


SAID = {
    "what", "marker", "checkpoint", "numerics", "weights", "engine", "device", "capability", "versions", "weight_bytes",
    "kv_cache_bytes", "kernels", "load_average", "kind", "unit", "figure", "figures",
}  # fmt: skip
MEASURED = {
    "at_once", "prompt_tokens", "new_tokens", "spread", "time_to_first_token_ms", "inter_token_ms",
}  # fmt: skip
COMPARED = {"baseline", "baseline_figure", "ratio"}


def test_the_json_holds_all_of_it(bench, pytester) -> None:
    bench(*TINY, "--benchmark-json=out.json")
    found = rows(pytester)
    assert len(found) == 2 * (1 + len(TINY_POINTS))
    for (half, what), row in found.items():
        missing = SAID | (MEASURED if what != "load" else {"answers"}) | (COMPARED if half == "quantized" else set())
        assert not missing - row.keys()
        assert not row.keys() & (COMPARED if half == "original" else set())
    decode = found["quantized", "decode at 4"]
    assert (decode["kind"], decode["at_once"], decode["prompt_tokens"], decode["new_tokens"]) == ("decode", 4, 16, 8)
    assert decode["figure"] == pytest.approx(4 * 8 / (4 * (0.025 + 7 * 0.005)))
    assert decode["figures"] == [decode["figure"]] * ROUNDS, "the warm-ups do not count"
    assert decode["spread"] == [decode["figure"]] * 2
    assert decode["baseline_figure"] == found["original", "decode at 4"]["figure"]
    assert decode["ratio"] == pytest.approx(2)
    assert decode["inter_token_ms"] == pytest.approx({"p50": 20, "p95": 20, "p99": 20})
    assert found["quantized", "first token of 16 tokens"]["ratio"] == pytest.approx(2), "shorter is faster"
    load = found["quantized", "load"]
    assert (load["weights"], load["weight_bytes"], load["memory_ratio"]) == ("real", 1 << 30, 3)
    assert load["answers"] == {"tokens": 128, "top1": 1, "bound": 0.7}
    assert len(found["original", "load"]["answers"]) == 8


def test_plain_pytest_skips_them(bench, pytester) -> None:
    result = bench("-m", "tiny")
    result.assert_outcomes(skipped=2 * (1 + len(TINY_POINTS)), deselected=4 * (1 + len(FULL_POINTS)))
    result.stdout.fnmatch_lines(["SKIPPED *: a benchmark: runs with --benchmark-only *"])
    assert not pytester.path.joinpath("log.txt").exists(), "no engine was made"


@pytest.mark.parametrize("kind", ["gpu", "thor"])
def test_without_the_hardware_its_items_say_what_is_missing(bench, pytester, kind) -> None:
    result = bench("-m", kind, "--benchmark-only")
    assert result.parseoutcomes()["skipped"] == 2 * (1 + len(FULL_POINTS))
    assert result.ret == 0
    needed = "a CUDA device of compute capability 8.0" if kind == "gpu" else "an NVIDIA Thor (compute capability 11.0)"
    result.stdout.fnmatch_lines([f"SKIPPED *needs {needed}*no CUDA device found (pretended)*"])
    assert not pytester.path.joinpath("log.txt").exists()


def test_a_hopper_skips_what_a_thor_runs(bench) -> None:
    result = bench("-m", "thor", "--benchmark-only", RANDOM, cuda=HOPPER)
    assert result.parseoutcomes()["skipped"] == 2 * (1 + len(FULL_POINTS))
    result.stdout.fnmatch_lines(["SKIPPED *needs an NVIDIA Thor *found NVIDIA H100 (9.0)*"])


def test_without_a_checkpoint_hardware_items_name_both_ways_to_run(bench) -> None:
    result = bench("-m", "gpu", "--benchmark-only", cuda=HOPPER)
    result.stdout.fnmatch_lines(
        ["SKIPPED *gpu items run on your checkpoint: give --q3omni-original or --q3omni-quantized; or *random-weights*"]
    )


@pytest.mark.parametrize("way", ["flag", "ini"])
def test_random_weights_run_the_full_size(bench, pytester, log, way) -> None:
    if way == "ini":
        pytester.makeini("[pytest]\nq3omni_random_weights = true\n")
    arguments = [one for one in GPU if way == "flag" or one != RANDOM]
    result = bench(*arguments, "--benchmark-json=out.json", cuda=HOPPER)
    assert result.parseoutcomes()["passed"] == 2 * (1 + len(FULL_POINTS))
    assert [line for line in log() if line.startswith("make")] == [
        "make original random bf16 original-bf16 tiny=False",
        "make quantized random w4a4 quantized-nvfp4-default tiny=False",
    ]
    found = rows(pytester)
    assert {row["weights"] for row in found.values()} == {"random"}
    assert (
        "meaningless" in str(found["original", "load"]["answers"]) or "nothing" in found["original", "load"]["answers"]
    )
    assert {row["at_once"] for row in found.values() if row["kind"] == "decode"} == set(AT_ONCE)
    assert {row["prompt_tokens"] for row in found.values() if row["kind"] == "prefill"} == set(PREFILLS)
    result.stdout.fnmatch_lines(["Random weights: speed and memory are real, answers mean nothing*"])
    assert found["quantized", "decode at 8"]["roofline"]["percent"] > 0
    assert "%" in cells(result, "decode at 8")[4]


def test_a_users_pair_runs_with_its_own_weights(bench, log, mine) -> None:
    result = bench("-m", "gpu", "--benchmark-only", *mine, cuda=HOPPER)
    assert result.parseoutcomes()["passed"] == 2 * (1 + len(FULL_POINTS))
    assert [line.split()[1:5] for line in log() if line.startswith("make")] == [
        ["original", "real", "bf16", "mine"], ["quantized", "real", "bf16", "mine-packed"],
    ]  # fmt: skip
    assert "Random weights" not in result.stdout.str()


def test_one_half_alone_is_measured_and_the_other_says_why_not(bench, mine) -> None:
    result = bench("-m", "gpu", "--benchmark-only", mine[1], cuda=HOPPER)
    count = 1 + len(FULL_POINTS)
    assert (result.parseoutcomes()["passed"], result.parseoutcomes()["skipped"]) == (count, count)
    assert cells(result, "decode at 8")[1] == "not measured"
    result.stdout.fnmatch_lines(["SKIPPED *only the quantized half is given*--q3omni-original*"])


def test_shapes_of_a_users_half_are_never_compared_with_another_models(bench, log, mine) -> None:
    """With random weights no answer would tell that the two are different models."""
    result = bench(*GPU, mine[1], cuda=HOPPER)
    count = 1 + len(FULL_POINTS)
    assert (result.parseoutcomes()["passed"], result.parseoutcomes()["skipped"]) == (count, count)
    result.stdout.fnmatch_lines(["SKIPPED *only the quantized half is given, and its shapes*--q3omni-original*"])
    assert [line.split()[1] for line in log() if line.startswith("make")] == ["quantized"]


@pytest.mark.parametrize("more", [(), (RANDOM,)], ids=["real", "random"])
def test_an_original_that_is_packed_is_no_baseline(bench, mine, tiny_cache, more) -> None:
    (packed,) = Path(tiny_cache.partition("=")[2]).glob("checkpoints/*-nvfp4-default-*/config.json")
    original = f"--q3omni-original={packed.parent}"
    result = bench("-m", "gpu", "--benchmark-only", original, mine[1], *more, cuda=HOPPER)
    count = 1 + len(FULL_POINTS)
    assert (result.parseoutcomes()["passed"], result.parseoutcomes()["failed"]) == (count, count)
    said = "already quantized (config.json*" if more else "packed already (w4a4); *--q3omni-original*"
    result.stdout.fnmatch_lines([f"InvalidRequest: *{said}"])


@pytest.mark.parametrize(
    ("arguments", "failed"),
    [
        (["--q3omni-min-speedup=1.9"], 0),
        (["--q3omni-min-speedup=2.1"], len(AT_ONCE)),
        (["--q3omni-min-speedup=8=2.1 32=1.5"], 1),
        (["--q3omni-min-speedup=8=2.1,1.5"], 1),
        (["--q3omni-min-speedup=2.1 8=1.5"], len(AT_ONCE) - 1),
        (["--q3omni-min-memory-ratio=2.9"], 0),
        (["--q3omni-min-memory-ratio=3.1"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_gates(bench, arguments, failed) -> None:
    result = bench(*GPU, *arguments, cuda=HOPPER)
    outcomes = result.parseoutcomes()
    assert (outcomes.get("failed", 0), outcomes["passed"]) == (failed, 2 * (1 + len(FULL_POINTS)) - failed)
    assert result.ret == (1 if failed else 0)
    if "speedup" in arguments[0] and failed:
        result.stdout.fnmatch_lines(
            ["*assert_speedup: decode at *: 2.00x (* medians), at_least is 2.10x", "*slower: *"]
        )
    elif failed:
        result.stdout.fnmatch_lines(["*assert_memory_ratio: weights in memory: 3.00x (1.00 GiB against 3.00 GiB)*"])


def test_a_gate_in_the_ini(bench, pytester) -> None:
    pytester.makeini("[pytest]\nq3omni_min_speedup = 8=2.1\nq3omni_min_memory_ratio = 3.1\n")
    assert bench(*GPU, cuda=HOPPER).parseoutcomes()["failed"] == 2
    assert (
        "failed"
        not in bench(*GPU, "--q3omni-min-speedup=1", "--q3omni-min-memory-ratio=1", cuda=HOPPER).parseoutcomes()
    )


def test_the_tiny_models_figures_pass_no_gate_and_fail_none(bench) -> None:
    result = bench(*TINY, "--q3omni-min-speedup=9", "--q3omni-min-memory-ratio=3.5")
    assert result.parseoutcomes()["passed"] == 2 * (1 + len(TINY_POINTS))


@pytest.mark.parametrize("flag", ["--q3omni-min-speedup=1", "--q3omni-min-memory-ratio=1"])
def test_a_gate_without_the_original_is_no_pass(bench, flag) -> None:
    result = bench(*GPU, flag, "-k", "quantized", cuda=HOPPER)
    assert result.parseoutcomes()["failed"] == (len(AT_ONCE) if "speedup" in flag else 1)
    result.stdout.fnmatch_lines(["*the original was not measured in this session. Fix: run the items of both*"])


@pytest.mark.parametrize(
    ("argument", "form"),
    [
        *((f"--q3omni-min-speedup={value}", "a factor such as 1.2, or several such as 8=1.2 32=1.5") for value in (
            "fast", "0", "-1", "nan", "inf", "8=", "=1.2", "0=1.2", "-8=1.2", "8=1.2=3", "8.5=1.2", "1 2", "8=1 8=2")),
        *((f"--q3omni-min-memory-ratio={value}", "a factor such as 1.2") for value in ("big", "0", "8=1.2", "1.2 3")),
        ("--q3omni-min-speedup=7=1.2", "1, 8, 32 or 64 before the =: a gate of 7 at once would judge nothing"),
        ("--q3omni-min-memory-ratio=3.6", "at most 3.55: NVFP4 has 4.5 bits a weight"),
    ],
)  # fmt: skip
def test_a_gate_that_is_none_is_refused(pytester, argument, form) -> None:
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", argument)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    flag, _, value = argument.partition("=")
    assert f"ERROR: {flag} {value}: expected {form}" in result.errlines


def test_an_original_that_says_nothing_is_nothing_to_compare_with(bench, pytester) -> None:
    result = bench("-m", "tiny", "--benchmark-only", "--benchmark-json=out.json", "-k", "load", original={"mute": True})
    result.assert_outcomes(passed=2, deselected=38)
    assert "empty" in rows(pytester)["quantized", "load"]["answers"]


def test_a_checkpoint_without_a_roofline_is_one_line(bench, pytester) -> None:
    """Its config and its tensors contradict each other: said when the figure is compared, and no traceback."""
    pytester.path.joinpath("broken.py").write_text(
        "from pytest_q3omni.errors import Inconsistent\n"
        "from pytest_q3omni.serve import decoder\n"
        "def refuse(*_, **__):\n"
        "    raise Inconsistent('no lm_head', where='config.json', fix='take both from the same model')\n"
        "decoder.decoder_of = refuse\n"
    )
    result = bench("-m", "tiny", "--benchmark-only", "-p", "broken", "-k", "tiny-original-decode-at-1")
    result.assert_outcomes(failed=1, deselected=39)
    result.stdout.fnmatch_lines(["Inconsistent: config.json: no lm_head. Fix: take both from the same model"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_garbage_fails_though_it_is_fast(bench) -> None:
    result = bench(*TINY, quantized={"garbage": True})
    assert (result.parseoutcomes()["failed"], result.parseoutcomes()["passed"]) == (1, 7)
    result.stdout.fnmatch_lines(
        ["*of 128 tokens of the original's answers to 8 text questions, this checkpoint finds 6% *"]
    )


@pytest.mark.parametrize("half", ["original", "quantized"])
def test_an_engine_that_dies_is_one_line_and_the_next_item_has_another(bench, log, half) -> None:
    result = bench(*TINY, **{half: {"dies": [1]}})
    assert (result.parseoutcomes()["failed"], result.parseoutcomes()["passed"]) == (1, 7)
    result.stdout.fnmatch_lines(["EngineError: a fake: was ended by signal 9 (Killed). Fix: take less"])
    assert "Traceback" not in result.stdout.str()
    assert [line for line in log() if half in line and "make" not in line] == [f"load {half}", f"close {half}"] * 2
    assert cells(result, "first token of 16 tokens")[1 if half == "original" else 2] == "not measured"


def test_an_engine_that_does_not_load_leaves_the_other_half_alone(bench, log) -> None:
    result = bench(*TINY, quantized={"dies": ["load"]})
    assert (result.parseoutcomes()["failed"], result.parseoutcomes()["passed"]) == (4, 4)
    result.stdout.fnmatch_lines(["EngineError: a fake: ended with code 3 during `load`. Its last lines: no kernel"])
    result.stdout.fnmatch_lines(["EngineError: * no kernel (not tried again in this session)"])
    assert [line for line in log() if line.startswith("try")] == ["try quantized"], "once: it takes minutes"


def test_without_an_engine_its_items_say_what_is_needed(bench) -> None:
    result = bench(*GPU, cuda=HOPPER, original={"missing": True}, quantized={"missing": True})
    assert result.parseoutcomes()["skipped"] == 2 * (1 + len(FULL_POINTS))
    result.stdout.fnmatch_lines(
        ["SKIPPED *needs vLLM 0.26 or newer, built for this device: no vLLM. Fix: *ENGINE_PYTHON*"]
    )
    result = bench(*TINY, original={"missing": True}, quantized={"missing": True})
    result.stdout.fnmatch_lines(["SKIPPED *needs an engine: no vLLM; expected an environment with vLLM. Fix: make one"])


def test_workers_take_turns_and_leave_the_device_empty(bench, log) -> None:
    """With workers pytest-benchmark measures nothing: each item runs once, alone on the device."""
    result = bench("-m", "gpu", "-n", "2", "--benchmark-enable", RANDOM, "-k", "load or decode-at-1", cuda=HOPPER)
    assert result.parseoutcomes()["passed"] == 4
    open_now = 0
    for line in log():
        open_now += line.startswith("load") - line.startswith("close")
        assert open_now in (0, 1)
    assert open_now == 0


def test_one_round_where_benchmarks_are_disabled(bench) -> None:
    result = bench("-m", "tiny", "--benchmark-disable", "-o", "addopts=")
    assert "failed" not in result.parseoutcomes()
