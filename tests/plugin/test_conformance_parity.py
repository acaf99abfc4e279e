"""The suite's comparison: one run for all of its items, whatever comes of it."""

import pytest

from pytest_q3omni import api
from pytest_q3omni.assertions.outcome import heard
from pytest_q3omni.conformance import test_parity as suite
from pytest_q3omni.errors import EngineError
from pytest_q3omni.records import Parity, Verdict

pytestmark = pytest.mark.tiny


@pytest.fixture
def asked(monkeypatch):
    """What `api.parity` is asked; it answers with an error, or with a parity of the device's name."""
    calls = []

    def parity(original, quantized, *, conversations, device):
        calls.append(device)
        if device == "refuses":
            raise EngineError("the model fails", where="mine:3")
        if device == "breaks":
            raise KeyError("a bug")
        return Parity(original, quantized, device, {}, Verdict("agrees", "pass", ""), ())

    monkeypatch.setattr(api, "parity", parity)
    suite._compare.cache_clear()
    yield calls
    suite._compare.cache_clear()


def test_a_pair_is_compared_once_and_heard_once(asked):
    judged = []
    token = heard.set(judged)
    try:
        found = [suite._compare("original", "quantized", "cpu", None) for _ in range(3)]
    finally:
        heard.reset(token)
    assert asked == ["cpu"]
    assert found == judged * 3


@pytest.mark.parametrize(
    ("device", "text"), [("refuses", "EngineError: mine:3: the model fails"), ("breaks", "KeyError: 'a bug'")]
)
def test_a_pair_that_fails_is_not_run_again_for_every_item(asked, device, text):
    first, again = (suite._compare("original", "quantized", device, None) for _ in range(2))
    assert asked == [device]
    assert first == again
    assert first.rstrip().endswith(text), "as text: an error would keep its models in memory"


SUITE = ["-p", "no:cacheprovider", "--pyargs", "pytest_q3omni.conformance.test_parity", "-m", "tiny"]
PATCH = """
from pathlib import Path
from pytest_q3omni import api
from pytest_q3omni.errors import EngineError

def parity(*arguments, **options):
    with Path("calls").open("a") as calls:
        calls.write("x")
    raise EngineError("the model fails", where="mine:3")

api.parity = parity
"""


def test_every_item_says_why(pytester, tiny_cache):
    for module in ("torch", "transformers", "modelopt"):
        pytest.importorskip(module, reason="needs the quantize extra: pip install pytest-q3omni[quantize]")
    pytester.makepyfile(made_up=PATCH)
    result = pytester.runpytest_subprocess("-p", "made_up", *SUITE, tiny_cache)
    result.assert_outcomes(errors=12)
    result.stdout.fnmatch_lines(["EngineError: mine:3: the model fails"])
    assert (pytester.path / "calls").read_text() == "x"
