"""ModelOpt: forward, calibration, quantizers.

On the tiny model, and for counts on the full-size one without its weights (torch's meta device).
"""

import inspect
import io
import json
from contextlib import redirect_stdout
from importlib.resources import files
from typing import Any

import pytest
from outcomes import Outcome

pytestmark = [pytest.mark.tiny, pytest.mark.filterwarnings("ignore::UserWarning")]

_REASON = "needs the quantize extra: pip install pytest-q3omni[quantize]"
torch = pytest.importorskip("torch", reason=_REASON)
transformers = pytest.importorskip("transformers", reason=_REASON)
pytest.importorskip("modelopt", reason=_REASON)

from modelopt_runs import (  # noqa: E402
    PACKAGES,
    TheirLoop,
    enabled,
    fresh,
    quantized,
    quantizers,
    samples,
    working_loop,
)

from pytest_q3omni.engines.modelopt import load_modelopt  # noqa: E402
from pytest_q3omni.omni.tiny import checkpoint_path  # noqa: E402
from pytest_q3omni.plan.build import build_plan  # noqa: E402

FIVE = (
    "AudioAttention",
    "VisionAttention",
    "ThinkerTextAttention",
    "TalkerCodePredictorAttention",
    "Code2WavAttention",
)
CONFIGS = (
    "NVFP4_DEFAULT_CFG", "NVFP4_AWQ_LITE_CFG", "NVFP4_AWQ_FULL_CFG", "NVFP4_MLP_WEIGHT_ONLY_CFG",
    "NVFP4_SVDQUANT_DEFAULT_CFG",
)  # fmt: skip


@pytest.fixture(autouse=True)
def releases(outcome: Outcome) -> None:
    outcome.uses(*PACKAGES)


@pytest.fixture(scope="module")
def full_size() -> Any:
    """The full-size model with ModelOpt's quantizers, none of them with weights."""
    from modelopt.torch.quantization.conversion import replace_quant_module
    from modelopt.torch.quantization.plugins.custom import register_custom_model_plugins_on_the_fly

    load_modelopt()
    config = json.loads((files("pytest_q3omni.omni") / "qwen3_omni_30b_config.json").read_text(encoding="utf-8"))
    with torch.device("meta"), redirect_stdout(io.StringIO()):
        kind = config.pop("model_type")
        described = transformers.AutoConfig.for_model(kind, **config)
        model = transformers.Qwen3OmniMoeForConditionalGeneration(described)
        register_custom_model_plugins_on_the_fly(model)
        replace_quant_module(model, version="")
    return model


@pytest.fixture(scope="module")
def failed() -> tuple[TheirLoop, Any]:
    """The investigation's first attempt: its loop, and the model that it leaves."""
    loop = TheirLoop()
    return loop, quantized("NVFP4_DEFAULT_CFG", loop)


@pytest.fixture(scope="module")
def calibrated() -> Any:
    return quantized("NVFP4_DEFAULT_CFG", working_loop)


def test_forward_is_changed(outcome: Outcome, failed: tuple[TheirLoop, Any]) -> None:
    """Quantization changes the model's forward."""
    before, after = type(fresh()).forward, type(failed[1]).forward
    finding = f"""The whole model has no forward of its own, before or after: both are torch's `{before.__name__}`. Its
        stages have one each."""
    assert before is torch.nn.Module.forward
    with outcome.refutes(finding):
        assert after is not before


def test_all_samples_fail(outcome: Outcome, failed: tuple[TheirLoop, Any]) -> None:
    """All 60 calibration samples failed: `_forward_unimplemented() got an unexpected keyword argument 'input_ids'`."""
    loop, _ = failed
    with outcome.confirms(f"{loop.failed} of {loop.ran} with the same loop, in these words."):
        assert loop.failed == loop.ran == len(samples())
        assert loop.errors == {"TypeError: _forward_unimplemented() got an unexpected keyword argument 'input_ids'"}


def test_samples_fail_because_of_quantization(outcome: Outcome) -> None:
    """They failed because of the quantization: before it, `model(**inputs)` works."""
    loop = TheirLoop()
    loop(fresh())
    working_loop(fresh())  # raises if one fails
    finding = f"""{loop.failed} of {loop.ran} fail without any quantization, too. `model.thinker(**inputs)` takes all
        {loop.ran}."""
    with outcome.refutes(finding):
        assert loop.failed == 0


def test_pass_through(outcome: Outcome, failed: tuple[TheirLoop, Any], calibrated: Any) -> None:
    """Without a successful calibration quantizers fall back to pass-through."""
    _, model = failed
    on = enabled(model)
    projection = model.thinker.model.layers[0].self_attn.q_proj
    changed = projection.weight_quantizer(projection.weight) != projection.weight
    finding = f"""{len(on)} of {len(quantizers(model))} quantizers are on after 60 failures, the same as after none, and
        they round: {float(changed.float().mean()):.0%} of the weights of a projection are changed."""
    assert on == enabled(calibrated)
    with outcome.refutes(finding):
        assert not on
        assert not changed.any()


def test_awq_robust(outcome: Outcome, failed: tuple[TheirLoop, Any]) -> None:
    """AWQ is more robust to forward signatures."""
    loop = TheirLoop()
    quantized("NVFP4_AWQ_LITE_CFG", loop)
    finding = f"""The same loop fails in {loop.failed} of {loop.ran} calls: AWQ goes over the samples twice, and needs
        a forward that works as much as any."""
    with outcome.refutes(finding):
        assert loop.failed / loop.ran < failed[0].failed / failed[0].ran


def test_awq_is_an_option(outcome: Outcome, tmp_path: Any) -> None:
    """AWQ is a way out: `NVFP4_AWQ_LITE_CFG` handles complex architectures better."""
    from modelopt.torch.export import export_hf_checkpoint

    def one(model: Any) -> None:
        with torch.inference_mode():
            model.thinker(**samples()[0])

    thinker = quantized("NVFP4_AWQ_LITE_CFG", one).thinker
    thinker.config.architectures = [type(thinker).__name__]
    finding = "Calibrated, it cannot be exported: ModelOpt's exporter does not know this model's experts under AWQ."
    with redirect_stdout(io.StringIO()), outcome.refutes(finding, NotImplementedError, match="not supported"):
        export_hf_checkpoint(thinker, export_dir=tmp_path)


def test_weight_only_needs_no_calibration(outcome: Outcome) -> None:
    """Weight-only quantization of the MLPs needs no calibration and no forward."""
    on = enabled(quantized("NVFP4_MLP_WEIGHT_ONLY_CFG"))
    inputs = [name for name in on if "input_quantizer" in name]
    plan = build_plan(checkpoint_path(), "nvfp4-mlp-weight-only")
    finding = f"""ModelOpt takes its config without a loop: {len(on)} quantizers are on, all of weights in an `mlp`.
        Here, the recipe `{plan.recipe}` packs without a calibration record."""
    with outcome.confirms(finding):
        assert on
        assert not inputs
        assert all(".mlp." in name for name in on)
        assert not any(tensor.input_site for tensor in plan.packed)


def test_block_size_of_the_config(outcome: Outcome) -> None:
    """`NVFP4_MLP_WEIGHT_ONLY_CFG` has blocks of 32 weights."""
    quantization = load_modelopt()
    sizes = {}
    for name in ("NVFP4_MLP_WEIGHT_ONLY_CFG", "NVFP4_DEFAULT_CFG"):
        entries = getattr(quantization, name)["quant_cfg"]
        sizes[name] = {entry["cfg"]["block_sizes"][-1] for entry in entries if "block_sizes" in entry.get("cfg", {})}
    other = ", ".join(map(str, sizes["NVFP4_DEFAULT_CFG"]))
    with outcome.confirms(f"Still so. `NVFP4_DEFAULT_CFG` has {other}, which is what engines serve: see vLLM below."):
        assert sizes["NVFP4_MLP_WEIGHT_ONLY_CFG"] == {32}
        assert sizes["NVFP4_DEFAULT_CFG"] == {16}


def test_five_configs(outcome: Outcome) -> None:
    """There are five FP4 configs: default, AWQ lite and full, MLP weight-only, SVDQuant."""
    known = {name for name in load_modelopt().config.choices if "NVFP4" in name}
    assert set(CONFIGS) <= known
    with outcome.refutes(f"These five exist, among {len(known)} whose names have NVFP4."):
        assert known == set(CONFIGS)


def test_quantizers_inserted(outcome: Outcome, full_size: Any) -> None:
    """81,411 quantizers are inserted.

    Counted again by the rules of that month: ModelOpt 0.40 gave each Linear and convolution three quantizers and each
    attention three (q, k, v), and none to LayerNorm and Embedding; in transformers 4.57 every expert was three Linear
    layers, and every router one.
    """
    kinds = [type(module).__name__ for module in full_size.modules()]
    attentions = sum(kind.endswith("Attention") for kind in kinds)
    layers = sum(
        kind in ("QuantLinear", "QuantConv1d", "QuantConv2d", "QuantConv3d", "QuantConvTranspose1d") for kind in kinds
    )
    routers = sum(kind.endswith("Router") for kind in kinds)
    fused = [module for module in full_size.modules() if type(module).__name__.endswith("TextExperts")]
    experts = sum(module.gate_up_proj.shape[0] for module in fused)
    then = 3 * (layers + routers + 3 * experts + attentions)
    now = len(quantizers(full_size))
    finding = f"""{then:,} by the rules of that month: three for each of {layers:,} layers, {routers} routers, 3 x
        {experts:,} expert matrices and {attentions} attentions. Today experts are fused and it is {now:,}. They are
        quantizers, not layers."""
    with outcome.confirms(finding):
        assert then == 81_411


def test_quantized_share(outcome: Outcome, full_size: Any) -> None:
    """32.59B parameters (92.4 %) are quantized to FP4."""
    from modelopt.torch.quantization.conversion import set_quantizer_by_cfg

    set_quantizer_by_cfg(full_size, load_modelopt().NVFP4_MLP_WEIGHT_ONLY_CFG["quant_cfg"])
    count = sum(quantized_weights(module) for module in full_size.modules())
    share = count / sum(parameter.numel() for parameter in full_size.parameters())
    finding = f"""Today's `NVFP4_MLP_WEIGHT_ONLY_CFG` turns quantizers on for {count / 1e9:.2f}B, {share:.2%}: not in
        vision and routers. They round, in BF16: nothing is stored in FP4."""
    assert count > 0
    with outcome.refutes(finding):
        assert f"{share:.1%}" == "92.4%"


def quantized_weights(module: Any) -> int:
    """Parameters of a module's own weights whose quantizers are on; experts have one for each."""
    count = 0
    for name, child in module.named_children():
        if name == "weight_quantizer" and child.is_enabled:
            count += module.weight.numel()
        elif name.endswith("_weight_quantizers") and all(each.is_enabled for each in child):
            count += getattr(module, name.removesuffix("_weight_quantizers")).numel()
    return count


def test_five_attentions(outcome: Outcome, full_size: Any) -> None:
    """ModelOpt registers five types of attention: audio, vision, thinker, code predictor, code2wav."""
    found = {type(module).__name__ for module in full_size.modules() if hasattr(module, "k_bmm_quantizer")}
    names = {name.removeprefix("QuantQwen3OmniMoe") for name in found}
    with outcome.confirms(
        f"{len(names)} classes in the whole model; the talker's own attention is the thinker's class."
    ):
        assert names == set(FIVE)


def test_five_kv_caches(outcome: Outcome) -> None:
    """Each of the five has its KV cache."""
    from transformers.models.qwen3_omni_moe import modeling_qwen3_omni_moe as modeling

    def takes_one(name: str) -> bool:
        forward = getattr(modeling, f"Qwen3OmniMoe{name}").forward
        return "past_key_values" in inspect.signature(forward).parameters

    caching = [name for name in FIVE if takes_one(name)]
    assert "ThinkerTextAttention" in caching
    without = " and ".join(name for name in FIVE if name not in caching)
    with outcome.refutes(f"{len(caching)} of {len(FIVE)} take one; {without} see all positions at once."):
        assert caching == list(FIVE)


def test_auto_quantize_method(outcome: Outcome) -> None:
    """`auto_quantize` has `method='gradient'` or `'max'`."""
    auto_quantize = load_modelopt().auto_quantize
    named = {"constraints", "data_loader", "forward_step", "num_calib_steps", "method"}
    assert named <= set(inspect.signature(auto_quantize).parameters)
    with outcome.refutes(
        "Its arguments are as told, but `max` is refused: it is `gradient` or `kl_div`.",
        ValueError,
        match="Invalid method: max",
    ):
        auto_quantize(fresh(), data_loader=[], forward_step=lambda model, batch: None, method="max")


def test_config_by_stage(outcome: Outcome) -> None:
    """Stages are chosen by a config such as `{"*thinker*": NVFP4_DEFAULT_CFG, "*audio*": {"enable": False}}`."""
    nested = {"*thinker*": load_modelopt().NVFP4_DEFAULT_CFG, "*audio*": {"enable": False}}
    finding = (
        "ModelOpt refuses it: a config holds patterns of quantizer names, no other configs. Here stages are a recipe's."
    )
    with outcome.refutes(finding, ValueError, match="Extra inputs are not permitted"):
        quantized(nested)
