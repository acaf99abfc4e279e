"""Records travel as JSON and come back as they were: between workers of a run, and to whoever reads `--format json`."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_q3omni.records import (
    Agreement,
    Divergence,
    Facts,
    Finding,
    InputRange,
    Judgement,
    Parity,
    SpeechAgreement,
    SpeechSample,
    StageSize,
    Verdict,
)
from pytest_q3omni.report import json as report
from pytest_q3omni.schema import judgement_from_json, judgement_json, parity_from_json, parity_json

pytestmark = pytest.mark.tiny

text, count = st.text(max_size=9), st.integers(0, 1 << 50)
finite = st.floats(allow_nan=False, allow_infinity=False)
endless = st.floats(min_value=0, allow_nan=False)
states, severities = st.sampled_from(["pass", "fail", "not checked"]), st.sampled_from(["error", "warning"])
numerics = st.sampled_from(["bf16", "w4a16", "w4a4"])


def few(values):
    return st.lists(values, max_size=2).map(tuple)


findings = few(st.builds(Finding, text, severities, text, text, text, text))
verdict = st.builds(Verdict, text, states, text)
divergence = st.builds(Divergence, count, count, *[endless] * 6, finite)
agreement = st.builds(Agreement, text, numerics, *[divergence] * 4, *[finite] * 3, endless, count, states)
noise = st.none() | finite
sample = st.builds(SpeechSample, text, text, st.tuples(text, text), st.tuples(count, count), finite, noise, noise)
speech = st.builds(
    SpeechAgreement, numerics, few(divergence), few(sample), st.dictionaries(text, few(few(finite)), max_size=2), finite
)
inputs = few(st.builds(InputRange, text, endless, endless, text, endless))
versions = st.dictionaries(text, text, max_size=2)
parities = st.builds(
    Parity, text, text, text, versions, verdict, few(agreement), inputs=inputs, speech=few(speech), findings=findings
)
sizes = st.dictionaries(text, st.builds(StageSize, count, count, count, count), max_size=2)
facts = st.builds(Facts, count, count, *[finite] * 5, sizes, sizes)
errors = st.dictionaries(text, st.tuples(endless, endless), max_size=3)
verdicts = st.lists(verdict, max_size=3, unique_by=lambda each: each.name).map(tuple)
judgements = st.builds(Judgement, text, verdicts, findings, facts, errors)


def strict(data):
    """As another program reads it: JSON has neither NaN nor Infinity."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(json.dumps(data, allow_nan=False), parse_constant=refuse)


@given(parities)
def test_a_parity_comes_back_as_it_was(parity):
    assert parity_from_json(strict(parity_json(parity))) == parity
    assert parity_from_json(json.loads(report.render_parity(parity))) == parity


@given(judgements)
def test_a_judgement_comes_back_as_it_was(judgement):
    assert judgement_from_json(strict(judgement_json(judgement))) == judgement


@given(judgements, parities)
def test_a_judgement_brings_its_parity(judgement, parity):
    found = json.loads(report.render_judgement(judgement, parity=parity))
    assert parity_from_json(found.pop("parity")) == parity
    assert judgement_from_json(found) == judgement


def some(mean=0.01, error=0.001):
    return Divergence(4, 30, mean, error, mean, mean, mean, mean, 0.9)


def test_an_infinite_number_is_null():
    row = Agreement("text", "w4a4", some(error=math.inf), some(), some(), some(), 1.0, 1.0, 1.0, math.inf, 60, "pass")
    voice = SpeechAgreement("w4a4", (some(error=math.inf),), ())
    data = strict(parity_json(Parity("a", "b", "", {}, Verdict("agrees", "pass", ""), (row,), speech=(voice,))))
    assert data["agreements"][0]["limit"] is None
    assert data["agreements"][0]["divergence"]["error"] is None
    assert data["agreements"][0]["plain"]["error"] == 0.001
    assert data["speech"][0]["codebooks"][0]["error"] is None


def test_a_row_of_a_model_that_computes_nan_is_null_and_comes_back():
    broken = Divergence(4, 30, *[math.inf] * 6, 0.25)
    row = Agreement("talker", "w4a4", broken, some(), broken, some(), 0.0, 1.0, 1.0, 0.04, 60, "fail")
    found = Parity("a", "b", "", {}, Verdict("agrees", "fail", ""), (row,))
    data = strict(parity_json(found))
    assert data["agreements"][0]["divergence"] == {
        "conversations": 4, "tokens": 30, "top1": 0.25,
        **dict.fromkeys(("mean", "error", "median", "p99", "p999", "largest")),
    }  # fmt: skip
    assert parity_from_json(data) == found


def test_an_input_range_and_a_sample_in_json():
    sample = SpeechSample("a", "text", ("A", "A"), (2, 2), 1.0, None, 30.0)
    found = Parity(
        "a", "b", "", {}, Verdict("agrees", "pass", ""), (), (InputRange("a", 2.0, math.inf, "b", 0.5),),
        (SpeechAgreement("w4a4", (), (sample,)),),
    )  # fmt: skip
    data = strict(parity_json(found))
    assert data["inputs"] == [{"module": "a", "holds": 2.0, "seen": None, "lowest": "b", "holds_least": 0.5}]
    assert data["speech"][0]["samples"][0]["vocoder_snr"] == 30.0
    assert parity_from_json(data) == found


def test_the_schema_of_a_parity():
    found = parity_json(
        Parity("original", "quantized", "cpu", {"torch": "2"}, Verdict("agrees", "fail", "1 error"), ())
    )
    assert found == {
        "schema": 1,
        "verdicts": {"agrees": {"state": "fail", "why": "1 error"}},
        "original": "original",
        "quantized": "quantized",
        "device": "cpu",
        "versions": {"torch": "2"},
        "agreements": [],
        "inputs": [],
        "speech": [],
        "findings": [],
    }
