"""docs/results.py --agreement: JUnit XML becomes rows, rows become a table. Each file here is made up."""

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.sax.saxutils import quoteattr

import pytest

pytestmark = pytest.mark.tiny

DOCS = Path(__file__).parents[2] / "docs"
DEVICE = "Made-up Device 9000"
SOUND, INPUTS = "packed weights against their BF16 twin", "the engine's W4A4 against our own"
LINE, DATA = "q3omni agreement", "q3omni agreement data"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script, writing into a folder of the test's own."""
    spec = importlib.util.spec_from_file_location("results_script", DOCS / "results.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "DATA", tmp_path / "results")
    monkeypatch.setattr(module, "PAGE", tmp_path / "results.md")
    monkeypatch.setattr(module, "README", tmp_path / "README.md")
    module.README.write_text(f"{module.BEGIN}\n{module.END}\n")
    yield module
    sys.path[:] = before


def line(what: str = SOUND, modality: str = "text", mean: Any = 0.0123, bound: float = 0.02, **other: Any) -> str:
    layers, engine = other.get("layers", 4), other.get("engine", "vLLM in /home/me/venv/bin/python")
    return (
        f"{what}, {modality}, {layers} layers, {engine} on {DEVICE}: mean |delta log p| {mean} ± 0.0034 (median 0.0078,"
        f" 99 % 0.043, largest 0.094), top-1 94.9% over 1,178 positions of 4 prompts; bounds {bound} and 90%; the "
        "reference against itself 0.0030, 97.8%"
    )


def data(modality: str = "text", control: str | None = None, state: str = "pass", **other: Any) -> str:
    found = {
        "comparison": "weights", "control": control, "modality": modality, "layers": 4,
        "engine": "vLLM in /home/me/venv/bin/python", "versions": {"vllm": "1.2.3"}, "device": DEVICE, "state": state,
        "apart": {
            "prompts": 4, "positions": 1178, "mean": 0.05, "error": 0.0034, "median": 0.0078, "p99": 0.043,
            "largest": 0.094, "top1": 0.949,
        },
        "noise": {"prompts": 4, "positions": 1178, "mean": 0.003, "top1": 0.978},
        "bounds": {"mean": 0.02, "top1": 0.9, "fault": 0.12},
    }  # fmt: skip
    return json.dumps(found | other)


def case(name: str, *properties: tuple[str, str], child: str = "") -> str:
    told = "".join(f"<property name={quoteattr(kind)} value={quoteattr(value)} />" for kind, value in properties)
    return f'<testcase classname="" name="{name}" time="1"><properties>{told}</properties>{child}</testcase>'


FAILED = '<failure message="Failed: too far apart">too far apart</failure>'


@pytest.fixture
def junit(tmp_path: Path) -> Any:
    def write(*cases: str, date: str = "2020-02-02", name: str = "answers.xml") -> str:
        suite = f'<testsuite name="pytest" timestamp="{date}T01:02:03.456">{"".join(cases)}</testsuite>'
        file = tmp_path / name
        text = f'<?xml version="1.0" encoding="utf-8"?><testsuites>{suite}</testsuites>'
        file.write_text(text, encoding="utf-8")
        return str(file)

    return write


def sound(modality: str = "text", child: str = "", marker: str = "gpu", **changes: Any) -> str:
    name = f"test_weights_agree_with_their_twin[{marker}-{modality}]"
    return case(name, (LINE, line(modality=modality, **changes)), child=child)


def written(script: ModuleType) -> dict[str, Any]:
    (file,) = script.DATA.glob("*.json")
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def table(script: ModuleType, start: str) -> list[list[str]]:
    lines = script.PAGE.read_text(encoding="utf-8").splitlines()
    return [text.strip("| ").split(" | ") for text in lines if text.startswith(f"| {start}")]


def test_a_line_is_read(script: ModuleType, junit: Any) -> None:
    script.main(["--agreement", junit(sound()), "--weights", "random"])
    assert written(script) == {
        "schema": 1,
        "device": DEVICE,
        "agreement": [
            {
                "marker": "gpu", "date": "2020-02-02", "comparison": "weights", "control": None, "modality": "text",
                "layers": 4, "engine": "vLLM", "device": DEVICE,
                "apart": {
                    "positions": 1178, "prompts": 4, "mean": 0.0123, "error": 0.0034, "median": 0.0078, "p99": 0.043,
                    "largest": 0.094, "top1": 0.949,
                },
                "noise": {"mean": 0.003, "top1": 0.978}, "bounds": {"mean": 0.02, "top1": 0.9}, "passed": True,
                "weights": "random",
            }
        ],
    }  # fmt: skip
    assert table(script, "packed weights") == [
        ["packed weights", "text (4, 1,178 tokens)", "0.0123 ± 0.0034", "0.02", "0.61x", "94.9 %", "90 %", "",
         "0.0030, 97.8 %", "pass"]
    ]  # fmt: skip
    page = script.PAGE.read_text(encoding="utf-8")
    assert f"**{DEVICE}**, 2020-02-02, vLLM: random weights, 4 layers; none of 1 failed." in page
    assert "No run on hardware is recorded yet." in page  # nothing was timed
    assert script.README.read_text(encoding="utf-8") == f"{script.BEGIN}\n{script.END}\n"
    assert not list(script.DATA.glob("*.svg"))


def test_data_is_preferred_to_the_line(script: ModuleType, junit: Any) -> None:
    file = junit(case("test_weights_agree_with_their_twin[gpu-text]", (LINE, line(mean=0.01)), (DATA, data())))
    script.main(["--agreement", file, "--weights", "real"])
    (row,) = written(script)["agreement"]
    assert row["apart"]["mean"] == 0.05
    assert row["bounds"]["fault"] == 0.12
    assert "/home" not in json.dumps(row)
    page = script.PAGE.read_text(encoding="utf-8")
    assert f"**{DEVICE}**, 2020-02-02, vLLM 1.2.3: the checkpoint's own weights, 4 layers" in page


def test_what_the_items_write_is_what_is_read(
    script: ModuleType, junit: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both properties of the real items, with figures that no JSON has: one prompt's error, an engine's NaN."""
    pytest.importorskip("numpy")
    from pytest_q3omni.conformance import test_serving_answers as suite
    from pytest_q3omni.engines.fake_serving import FakeServing
    from pytest_q3omni.engines.serving import Prompt, PromptLogprobs
    from pytest_q3omni.engines.vllm_questions import Question
    from pytest_q3omni.serve.agreement import compare

    class Run:
        layers, input_layers, loaded = 4, 1, FakeServing(device=DEVICE).load()

    tokens = tuple(range(60))
    one, nan = (PromptLogprobs(tokens, (value,) * 60, tokens) for value in (-1.0, float("nan")))
    prompts = [Prompt(question=Question("text 0", "text", "?"))]
    found = compare(prompts, [one], [[one]], [nan], placeholders=frozenset())
    monkeypatch.setattr(request.node, "user_properties", [])
    with pytest.raises(pytest.fail.Exception):
        suite._judge(Run, found, "text", "inputs", request)  # type: ignore[arg-type]
    properties = list(request.node.user_properties)
    name = "test_inputs_agree_with_our_own[gpu-text]"
    both = []
    for kept in (properties, properties[:1]):
        script.main(["--agreement", junit(case(name, *kept, child=FAILED)), "--weights", "random"])
        (row,) = written(script)["agreement"]
        both.append({key: row[key] for key in ("comparison", "control", "modality", "layers", "engine", "passed")})
        assert (row["apart"]["mean"], row["apart"]["error"]) == ("inf", "inf")
        assert table(script, "W4A4")[0][2:5] == ["inf ± inf", "0.02", "infx"]
    assert both[0] == both[1]
    assert both[0]["comparison"] == "inputs"


def test_a_later_file_replaces_its_own_rows_only(script: ModuleType, junit: Any) -> None:
    first = junit(sound("text"), sound("image"), sound("text", marker="tiny", layers=2), name="1.xml")
    script.main(["--agreement", first, "--weights", "random"])
    control = case("test_weights_control[gpu-nibbles-swapped]", (LINE, line("control nibbles-swapped", mean=0.5)))
    later = junit(control, sound("text", mean=0.0199), date="2020-03-03", name="2.xml")
    script.main(["--agreement", later, "--weights", "random"])
    rows = [(r["marker"], r["control"], r["modality"], r["apart"]["mean"]) for r in written(script)["agreement"]]
    assert rows == [
        ("gpu", None, "text", 0.0199),
        ("gpu", None, "image", 0.0123),
        ("gpu", "nibbles-swapped", "text", 0.5),
        ("tiny", None, "text", 0.0123),
    ]
    page = script.PAGE.read_text(encoding="utf-8")
    assert f"**{DEVICE}**, 2020-02-02, 2020-03-03, vLLM: random weights, 4 layers; none of 3 failed" in page
    assert f"**{DEVICE}**, 2020-02-02, vLLM: the trained tiny model, 2 layers; none of 1 failed" in page
    at_once = script.merged([], [*written(script)["agreement"]])
    assert at_once == written(script)["agreement"]


def test_the_last_file_of_one_command_counts(script: ModuleType, junit: Any) -> None:
    files = [junit(sound(mean=mean), name=f"{mean}.xml") for mean in (0.011, 0.012)]
    script.main(["--agreement", files[0], "--agreement", files[1], "--weights", "random"])
    assert [row["apart"]["mean"] for row in written(script)["agreement"]] == [0.012]


def test_failures_are_shown_as_the_run_judged_them(script: ModuleType, junit: Any) -> None:
    """Also where the figures keep today's bounds, or break them: nothing is judged again."""
    inputs = [(LINE, line(INPUTS, mean=0.01, bound=0.0924))]
    file = junit(
        sound("text", mean=0.0001, child=FAILED),
        sound("image", mean=9.0),
        case("test_weights_agree_with_their_twin[gpu-audio]", (DATA, data("audio", state="not checked")), child=FAILED),
        case("test_inputs_agree_with_our_own[gpu-text]", *inputs, child='<error message="in teardown" />'),
    )
    script.main(["--agreement", file, "--weights", "random"])
    assert [row[-1] for row in table(script, "packed weights")] == ["**fail**", "pass", "**not checked**"]
    assert [(row[3], row[4], row[-1]) for row in table(script, "W4A4")] == [("0.0924", "0.11x", "**fail**")]
    assert "**3 of 4 failed**" in script.PAGE.read_text(encoding="utf-8")


def test_a_control_that_is_not_rejected_is_shown(script: ModuleType, junit: Any) -> None:
    name = "test_{}_control[gpu-{}]"
    file = junit(
        case(name.format("weights", "a"), (LINE, line("control a", mean=0.13)), (LINE, line("control a", "image"))),
        case(name.format("weights", "b"), (LINE, line("control b")), child=FAILED),
        case(name.format("weights", "c"), (DATA, data("text", "c", "fail")), (DATA, data("image", "c")), child=FAILED),
        case(name.format("inputs", "a"), (LINE, line("control a"))),
    )
    script.main(["--agreement", file, "--weights", "random"])
    assert [row[-1] for row in table(script, "control: a")] == ["rejected, as it must be"] * 3
    assert [row[-1] for row in table(script, "control: b")] == ["**not rejected in every modality**"]
    assert [row[-1] for row in table(script, "control: c")] == ["rejected, as it must be", "**not rejected**"]
    assert [row["comparison"] for row in written(script)["agreement"]] == ["weights"] * 5 + ["inputs"]
    assert "**2 of 6 failed**" in script.PAGE.read_text(encoding="utf-8")


def test_a_failure_without_figures_is_named(script: ModuleType, junit: Any, capsys: pytest.CaptureFixture[str]) -> None:
    died = case("test_inputs_agree_with_our_own[gpu-text]", child=FAILED)
    script.main(["--agreement", junit(sound(), died, case("test_other[gpu-x]")), "--weights", "random"])
    assert len(written(script)["agreement"]) == 1
    told = capsys.readouterr().err
    assert "test_inputs_agree_with_our_own[gpu-text] failed without figures, and adds nothing" in told
    assert "test_other" not in told


def test_figures_of_speed_and_agreement_keep_each_other(script: ModuleType, junit: Any) -> None:
    timed = {"schema": 1, "device": DEVICE, "points": [{"kind": "load"}]}
    script.record(timed, [])
    row = {**json.loads(data()), "marker": "gpu", "date": "", "passed": True, "weights": "random"}
    script.record(None, [row])
    assert written(script) == {**timed, "agreement": [row]}
    again = {**timed, "points": []}
    script.record(again, [])
    assert written(script) == {**again, "agreement": [row]}


def test_whose_weights_must_be_said(script: ModuleType, junit: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        script.main(["--agreement", junit(sound())])
    assert "say --weights random, or real" in capsys.readouterr().err
    assert not script.DATA.exists()
    script.main(["--agreement", junit(sound(marker="tiny", layers=2))])  # the tiny model has its own
    assert [row["weights"] for row in written(script)["agreement"]] == ["real"]


LAUGHS = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'
ELSEWHERE = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/hostname">]>'
MALFORMED = {
    "cut off": ("<testsuites><testsuite>", "not XML"),
    "empty": ("", "not XML"),
    "json": ("{}", "not XML"),
    "entities": (f"{LAUGHS}<testsuites>&b;</testsuites>", "document type declaration"),
    "external": (f"{ELSEWHERE}<testsuites>&a;</testsuites>", "document type declaration"),
    "undeclared": ("<testsuites>&a;</testsuites>", "not XML"),
    "no items": ("<testsuites/>", "no item has the property"),
    "not text": (b"\xff\xfe<\0", "cannot be read"),
}


@pytest.mark.parametrize(("content", "message"), MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_such_file_is_one_error(
    script: ModuleType, tmp_path: Path, content: str | bytes, message: str
) -> None:
    file = tmp_path / "answers.xml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SystemExit, match=rf"{re.escape(str(file))}: .*{message}.*\. Fix: "):
        script.main(["--agreement", str(file), "--weights", "random"])
    assert not script.DATA.exists()


def without(key: str) -> str:
    return json.dumps({name: value for name, value in json.loads(data()).items() if name != key})


UNREADABLE = {
    "another line": (LINE, "all is well"),
    "another comparison": (LINE, line("one thing against another")),
    "no number": (LINE, line(mean="much")),
    "no bound": (LINE, line(bound=0)),
    "no json": (DATA, "{"),
    "no object": (DATA, "[]"),
    "unknown comparison": (DATA, data(comparison="both")),
    "no device": (DATA, without("device")),
    "no figures": (DATA, without("apart")),
}


@pytest.mark.parametrize("told", UNREADABLE.values(), ids=UNREADABLE)
def test_figures_that_cannot_be_read_are_one_error(script: ModuleType, junit: Any, told: tuple[str, str]) -> None:
    name = "test_weights_agree_with_their_twin[gpu-text]"
    with pytest.raises(SystemExit, match=rf"{re.escape(name)}: figures that cannot be read"):
        script.main(["--agreement", junit(sound("image"), case(name, told)), "--weights", "random"])
    assert not script.DATA.exists()


def test_an_item_of_no_runner_is_refused(script: ModuleType, junit: Any) -> None:
    with pytest.raises(SystemExit, match="neither tiny, gpu nor thor"):
        script.main(["--agreement", junit(case("test_mine[text]", (LINE, line()))), "--weights", "random"])


def test_a_file_that_is_missing_is_one_error(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"none\.xml: cannot be read"):
        script.main(["--agreement", str(tmp_path / "none.xml"), "--weights", "random"])


def test_what_both_have_in_common_is_read_from_either_and_shown(script: ModuleType, junit: Any) -> None:
    told = line(INPUTS).replace("bounds 0.02 and 90%", "bounds 0.127 and 0%")
    told += "; in common 0.876, at least 0.5, the reference with itself 0.781"
    figures = json.loads(data(comparison="inputs", layers=1))
    figures["apart"]["in_common"], figures["noise"]["in_common"] = 0.876, 0.781
    figures["bounds"] |= {"mean": 0.127, "top1": 0.0, "fault": "inf", "in_common": 0.5}
    name = "test_inputs_agree_with_our_own[gpu-text]"
    for properties in ([(LINE, told)], [(LINE, told), (DATA, json.dumps(figures))]):
        script.main(["--agreement", junit(case(name, *properties)), "--weights", "random"])
        (row,) = table(script, "W4A4")
        assert row[5:] == ["94.9 %", "", "0.88, at least 0.5", "0.0030, 97.8 %, 0.78", "pass"]
