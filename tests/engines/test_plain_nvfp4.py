"""Plain NVFP4 of a model whose talker is packed, too: with speech both are rounded, without it the thinker alone."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest

pytestmark = pytest.mark.tiny

_REASON = "needs the quantize extra: pip install pytest-q3omni[quantize]"
torch = pytest.importorskip("torch", reason=_REASON)
pytest.importorskip("transformers", reason=_REASON)
pytest.importorskip("modelopt", reason=_REASON)
np = pytest.importorskip("numpy")

from pytest_q3omni.engines.plain_nvfp4 import PlainNVFP4  # noqa: E402
from pytest_q3omni.engines.speech import speech_logprobs  # noqa: E402
from pytest_q3omni.engines.transformers import conversation_inputs, thinker_step  # noqa: E402
from pytest_q3omni.omni.conversations import load_conversations  # noqa: E402
from pytest_q3omni.omni.naming import experts_module, fused_group, input_site  # noqa: E402
from pytest_q3omni.omni.tiny import checkpoint_path, conversations_path  # noqa: E402
from pytest_q3omni.plan.build import build_plan  # noqa: E402

TALKER = "talker.model.layers"
ANSWER = [38, 48, 431]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tensors(*, thinker=True):
    """What `nvfp4-default` packs, and the experts of the talker, of which every layer is W4A4."""
    planned = []
    for tensor in build_plan(checkpoint_path(), "nvfp4-default").tensors:
        if tensor.source.name.startswith(TALKER) and experts_module(tensor.module):
            sites = {"group": fused_group(tensor.module), "input_site": input_site(tensor.module)}
            tensor = replace(tensor, action="nvfp4", targets=(), **sites)
        elif not thinker:
            tensor = replace(tensor, action="keep", group="", input_site="")
        planned.append(tensor)
    return planned


def plain(*, speech, thinker=True):
    """Calibrated on one question in text, and on its speech."""
    asked = load_conversations(conversations_path())[0]

    def calibrate(model):
        with torch.inference_mode():
            thinker_step(model, conversation_inputs(handle.processor, asked))
        if speech:
            codes = np.random.default_rng(1).integers(0, 64, (4, 6))
            speech_logprobs(model, handle.processor, asked, "cpu", ANSWER, codes)

    handle = PlainNVFP4(checkpoint_path(), tensors(thinker=thinker), calibrate, device="cpu")
    return handle


def quantizers(model):
    named = ((name, module) for name, module in model.named_modules() if type(module).__name__ == "TensorQuantizer")
    return {name for name, module in named if module.is_enabled}


def test_with_speech_the_talker_is_calibrated_and_rounded():
    with closing(plain(speech=True)) as handle:
        with handle.loaded(speech=True) as model:
            on = quantizers(model)
            inputs = {name for name in on if name.startswith(TALKER) and name.endswith("_input_quantizer")}
            assert len(inputs) == 2 * len(model.talker.model.layers)
            handle.numerics = "w4a16"
            assert on - quantizers(model) == {name for name in on if name.endswith("input_quantizer")}
        amax = handle.input_amax()
    wanted = {tensor.input_site for tensor in tensors() if tensor.action == "nvfp4"}
    assert amax.keys() == wanted
    assert min(amax.values()) > 0


@pytest.mark.parametrize("thinker", [True, False])
def test_without_speech_only_the_thinker_is_there(thinker):
    with closing(plain(speech=False, thinker=thinker)) as handle:
        with handle.loaded(speech=False) as model:
            assert not any(name.startswith("talker") for name in quantizers(model))
            for numerics in ("w4a16", "w4a4"):
                handle.numerics = numerics
        wanted = {tensor.input_site for tensor in tensors(thinker=thinker) if tensor.action == "nvfp4"}
        assert handle.input_amax().keys() == {site for site in wanted if site.startswith("thinker.")}


def test_opened_again_with_speech_it_is_rounded_anew():
    with closing(plain(speech=True)) as handle:
        handle._calibrate, spoken = thinker_only(handle), handle._calibrate
        with handle.loaded(speech=False) as model:
            assert not any(name.startswith("talker") for name in quantizers(model))
        handle._calibrate = spoken
        with handle.loaded(speech=True) as model:
            assert any(name.startswith("talker") for name in quantizers(model))


def thinker_only(handle):
    inputs = conversation_inputs(handle.processor, load_conversations(conversations_path())[0])

    def calibrate(model):
        with torch.inference_mode():
            thinker_step(model, inputs)

    return calibrate
