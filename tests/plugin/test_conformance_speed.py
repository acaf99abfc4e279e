"""The suite's benchmarks: what they say of a run, and what they leave behind."""

import os
from types import SimpleNamespace

import pytest

from pytest_q3omni.conformance._speed import MILLISECONDS, describe

pytestmark = pytest.mark.tiny


def benchmark():
    return SimpleNamespace(stats=SimpleNamespace(stats=SimpleNamespace(median=0.5)), extra_info={})


def test_the_load_of_the_machine_is_said_where_it_is_counted(monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (1.25, 2.0, 3.0), raising=False)
    here = benchmark()
    describe(here, MILLISECONDS, packages=())
    assert (here.extra_info["load_average"], here.extra_info["figure"]) == (1.25, 500)
    monkeypatch.delattr(os, "getloadavg")  # as on Windows
    there = benchmark()
    describe(there, MILLISECONDS, packages=())
    assert there.extra_info == {**here.extra_info, "load_average": None}


def test_writing_leaves_no_model_open_when_it_fails(monkeypatch, original_checkpoint, quantized_checkpoint):
    for module in ("torch", "transformers"):
        pytest.importorskip(module, reason="needs the quantize extra: pip install pytest-q3omni[quantize]")
    from pytest_q3omni.conformance import test_speed_answers as suite
    from pytest_q3omni.engines.handle import open_models

    before = open_models()

    def writer(handle, model, conversation):
        assert handle in open_models()
        raise ZeroDivisionError

    monkeypatch.setattr(suite, "_writer", writer)
    with pytest.raises(ZeroDivisionError):
        suite.test_writing(None, "w4a4", 1, SimpleNamespace(path=original_checkpoint), quantized_checkpoint, None)
    assert open_models() == before
