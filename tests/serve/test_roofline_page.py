"""docs/roofline.md has what is predicted now."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pytest_q3omni.plan.recipes import recipe_names
from pytest_q3omni.serve.hardware import DEVICES
from pytest_q3omni.serve.roofline import predict_decode

pytestmark = pytest.mark.tiny

SCRIPT = Path(__file__).parents[2] / "docs" / "roofline_table.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("roofline_table", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["roofline_table"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(script: ModuleType) -> None:
    again = "the page is out of date. Fix: python docs/roofline_table.py"
    assert script.PAGE.read_text(encoding="utf-8") == script.page(), again


def test_every_device_has_a_table_marked_as_predicted(script: ModuleType) -> None:
    text = script.PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^### (.+) \(\*predicted\*\)$", text, re.MULTILINE) == list(DEVICES)
    assert text.count("| predicted tokens/s |") == len(DEVICES)
    assert all(text.count(f"\n| `{name}` |") == len(DEVICES) for name in recipe_names())


def test_the_experts_that_the_text_names(script: ModuleType) -> None:
    touched = [round(128 * (1 - (1 - 8 / 128) ** tokens)) for tokens in (1, 8, 64)]
    assert "is {} of 128 for one token, {} for 8, and {} for 64".format(*touched) in script.HEAD


def test_what_the_text_says_of_published_figures(script: ModuleType) -> None:
    """61 and 81 lie above the roofline of BF16 and below that of NVFP4."""
    thor = DEVICES["Jetson AGX Thor"]
    bf16, nvfp4 = (
        predict_decode(script.decoder(name), thor, at_once=1, context=script.CONTEXT).tokens_per_second
        for name in ("bf16", "nvfp4-default")
    )
    assert all(bf16 < figure < nvfp4 for _, figure in script.PUBLISHED)
