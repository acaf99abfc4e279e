"""Does it answer like its original? Each modality in each numerics is an item of its own."""

from __future__ import annotations

import traceback
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_q3omni import api
from pytest_q3omni.assertions.outcome import hear
from pytest_q3omni.conformance._pairs import pytest_generate_tests  # noqa: F401  # parametrizes `runner`
from pytest_q3omni.errors import Q3OmniError
from pytest_q3omni.plugin.options import CONVERSATIONS, SETTINGS
from pytest_q3omni.records import Parity

if TYPE_CHECKING:
    from pytest_q3omni.engines.handle import ModelHandle

pytestmark = pytest.mark.usefixtures("runner")


@cache
def _compare(original: Path, quantized: Path, device: str, conversations: Path | None) -> Parity | str:
    """Once per pair and process, since it runs five models; or why it failed, as text: an error would hold its frames,
    and these the models.
    """
    try:
        found = api.parity(original, quantized, conversations=conversations, device=device)
    except Q3OmniError as error:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001  # a bug of ours, which the items report as well
        return traceback.format_exc()
    hear(found)
    return found


@pytest.fixture
def parity(
    runner: str, original_model: ModelHandle, quantized_model: ModelHandle, request: pytest.FixtureRequest
) -> Parity:
    """The comparison; your checkpoints need your conversations."""
    for module in ("torch", "transformers", "modelopt"):
        pytest.importorskip(module, reason=f"needs {module}: pip install 'pytest-q3omni[quantize]'")
    given = None if runner == "tiny" else request.config.stash[SETTINGS].conversations
    if runner != "tiny" and given is None:
        pytest.skip(f"your checkpoints need your conversations: give {CONVERSATIONS}")
    found = _compare(original_model.path, quantized_model.path, quantized_model.device, given)
    if isinstance(found, str):
        pytest.fail(found, pytrace=False)
    return found


@pytest.mark.parametrize("numerics", ["w4a16", "w4a4"])
@pytest.mark.parametrize("modality", ["text", "image", "audio", "talker", "code_predictor"])
def test_answers(modality: str, numerics: str, parity: Parity) -> None:
    """No further from BF16 than four times what plain NVFP4 of the same layers is."""
    row = next((row for row in parity.agreements if (row.modality, row.numerics) == (modality, numerics)), None)
    if row is None:
        made_for = ", ".join(sorted({row.numerics for row in parity.agreements}))
        pytest.skip(f"not asked: the conversations bring no such answers, or the files are made for {made_for} alone")
    found = [str(finding) for finding in parity.findings if finding.where == row.where]
    if row.state != "pass":
        pytest.fail("\n".join(found), pytrace=False)


def test_input_ranges(parity: Parity) -> None:
    """Every input scale holds what the conversations bring, and is not far beyond it."""
    if not parity.inputs:
        pytest.skip("no activation is quantized")
    found = [str(finding) for finding in parity.findings if finding.check == "input-ranges"]
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def test_sound(parity: Parity) -> None:
    """Equal codes sound equal."""
    if not parity.speech:
        pytest.skip("nothing is spoken: a thinker alone, or no conversation that speech can answer")
    found = [str(finding) for finding in parity.findings if finding.where.startswith("speech in ")]
    if found:
        pytest.fail("\n".join(found), pytrace=False)
