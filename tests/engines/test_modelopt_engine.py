"""The ModelOpt adapter: which quantizers a plan turns on, what they record, and what is put back afterwards."""

import dataclasses
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError

import pytest

pytestmark = pytest.mark.tiny

_REASON = "needs the quantize extra: pip install pytest-q3omni[quantize]"
torch = pytest.importorskip("torch", reason=_REASON)
pytest.importorskip("transformers", reason=_REASON)
pytest.importorskip("modelopt", reason=_REASON)

from pytest_q3omni.engines import fake_quant, modelopt  # noqa: E402
from pytest_q3omni.engines.transformers import conversation_inputs, load_model, thinker_step  # noqa: E402
from pytest_q3omni.errors import EngineError, MissingDependency  # noqa: E402
from pytest_q3omni.omni.conversations import load_conversations  # noqa: E402
from pytest_q3omni.omni.processor import load_processor  # noqa: E402
from pytest_q3omni.omni.tiny import checkpoint_path, conversations_path  # noqa: E402
from pytest_q3omni.plan.build import build_plan  # noqa: E402

LAYERS = "thinker.model.layers"


@pytest.fixture(scope="module")
def plan():
    return build_plan(checkpoint_path(), "nvfp4-default")


@pytest.fixture(scope="module")
def samples():
    """Inputs of six conversations: two of each kind."""
    processor = load_processor(checkpoint_path())
    return [conversation_inputs(processor, item) for item in load_conversations(conversations_path())[:6]]


def run(samples):
    def loop(model):
        with torch.inference_mode():
            for inputs in samples:
                thinker_step(model, inputs)

    return loop


def enabled(model):
    named = model.named_modules()
    quantizers = ((name, module) for name, module in named if type(module).__name__ == "TensorQuantizer")
    return {name for name, module in quantizers if module.is_enabled}


def keep(plan, *modules):
    """The plan with these modules left unpacked."""
    tensors = [
        dataclasses.replace(tensor, action="keep", input_site="", group="") if tensor.module in modules else tensor
        for tensor in plan.tensors
    ]
    return dataclasses.replace(plan, tensors=tuple(tensors))


def watch_inputs(monkeypatch, model):
    """Largest |input| per site, from plain hooks on the unquantized model; no quantizer is involved."""
    seen: dict[str, float] = {}

    def note(site, values):
        seen[site] = max(seen.get(site, 0.0), float(values.abs().max()))

    owners = {}
    for number, layer in enumerate(model.thinker.model.layers):
        base = f"{LAYERS}.{number}"
        for projection, site in (("q_proj", "qkv_proj"), ("o_proj", "o_proj")):
            getattr(layer.self_attn, projection).register_forward_pre_hook(
                lambda _, inputs, site=f"{base}.self_attn.{site}": note(site, inputs[0])
            )
        for name in ("gate_up_proj", "down_proj"):
            owners[getattr(layer.mlp.experts, name).untyped_storage().data_ptr()] = f"{base}.mlp.experts.{name}"
    plain = torch.nn.functional.linear

    def linear(inputs, weight, bias=None):
        if weight.untyped_storage().data_ptr() in owners:
            note(owners[weight.untyped_storage().data_ptr()], inputs)
        return plain(inputs, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    return seen


def test_amax_equals_plain_hooks_on_the_unquantized_model(plan, samples, monkeypatch):
    quantized = modelopt.fake_quantize(load_model(checkpoint_path()), plan.tensors, run(samples), weights=False)
    recorded = modelopt.input_amax(quantized, plan.tensors)
    plain = load_model(checkpoint_path())
    seen = watch_inputs(monkeypatch, plain)
    run(samples)(plain)
    assert len(recorded) == 8
    assert recorded == seen
    assert recorded == {site: float(torch.tensor(value).bfloat16()) for site, value in recorded.items()}


def test_only_planned_quantizers_are_on(plan, samples):
    model = modelopt.fake_quantize(load_model(checkpoint_path()), plan.tensors, run(samples[:1]))
    dense = {f"{LAYERS}.{layer}.self_attn.{name}_proj" for layer in (0, 1) for name in "qkvo"}
    wanted = {f"{module}.{kind}_quantizer" for module in dense for kind in ("input", "weight")}
    for layer in (0, 1):
        for projection in ("gate_up_proj", "down_proj"):
            experts = f"{LAYERS}.{layer}.mlp.experts.{projection}"
            wanted |= {f"{experts}_input_quantizer", *(f"{experts}_weight_quantizers.{number}" for number in range(8))}
    assert enabled(model) == wanted


def test_without_weights_only_input_quantizers_are_on(plan, samples):
    model = modelopt.fake_quantize(load_model(checkpoint_path()), plan.tensors, run(samples[:1]), weights=False)
    assert len(enabled(model)) == 12
    assert all(name.endswith("input_quantizer") for name in enabled(model))


def test_a_pattern_never_turns_on_more_than_the_plan(plan, samples):
    part = keep(plan, f"{LAYERS}.1.self_attn.q_proj")
    model = modelopt.fake_quantize(load_model(checkpoint_path()), part.tensors, run(samples[:1]), weights=False)
    assert f"{LAYERS}.0.self_attn.q_proj.input_quantizer" in enabled(model)
    assert f"{LAYERS}.1.self_attn.q_proj.input_quantizer" not in enabled(model)
    assert len(enabled(model)) == 11


def test_a_pattern_turns_no_input_on_whose_weight_alone_is_packed(plan):
    module = f"{LAYERS}.1.self_attn.q_proj"
    tensors = [dataclasses.replace(each, input_site="") if each.module == module else each for each in plan.tensors]
    names = {entry["quantizer_name"] for entry in modelopt.quant_config(tensors)["quant_cfg"]}
    assert f"{LAYERS}.0.self_attn.q_proj.input_quantizer" in names
    assert f"{LAYERS}.*.self_attn.q_proj.weight_quantizer" in names
    assert not any(fnmatchcase(f"{module}.input_quantizer", name) for name in names - {"*"})


def test_one_entry_stands_for_all_layers(plan):
    entries = modelopt.quant_config(plan.tensors)["quant_cfg"]
    assert entries[0] == {"quantizer_name": "*", "enable": False}
    assert len(entries) == 1 + 2 * 4 + 2 * 2
    assert all(entry["cfg"]["block_sizes"][-1] == 16 for entry in entries[1:])


def test_weight_only_plans_have_no_input_quantizers():
    plan = build_plan(checkpoint_path(), "nvfp4-mlp-weight-only")
    names = [entry["quantizer_name"] for entry in modelopt.quant_config(plan.tensors)["quant_cfg"]]
    assert len(names) == 3
    assert not any("input_quantizer" in name for name in names)


def test_fake_quantization_changes_the_answer_a_little(plan, samples):
    inputs = samples[0]
    plain = load_model(checkpoint_path())
    quantized = modelopt.fake_quantize(load_model(checkpoint_path()), plan.tensors, run(samples))
    with torch.inference_mode():
        before, after = (thinker_step(model, inputs).logits.float() for model in (plain, quantized))
    assert not torch.equal(before, after)
    assert torch.equal(before[0, -1].argmax(), after[0, -1].argmax())


def test_the_operator_on_the_cpu_is_our_kernel():
    modelopt.load_modelopt()
    modelopt.load_modelopt()
    data = torch.randn(4, 64, generator=torch.Generator().manual_seed(1)).bfloat16()
    amax = data.abs().amax()
    result = torch.ops.tensorrt.dynamic_block_quantize_op(data, 16, amax, 4, 2, 8, 4)
    assert torch.equal(result, fake_quant.nvfp4_fake_quantize(data, amax))
    assert result.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("capability", "keys"),
    [(None, {"CPU"}), ((8, 0), {"CPU", "CUDA"}), ((8, 6), {"CPU", "CUDA"}), ((8, 9), {"CPU"}), ((9, 0), {"CPU"})],
)
def test_it_is_our_kernel_where_modelopt_would_compile_one(monkeypatch, capability, keys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert set(modelopt._without_kernel()) == keys


@pytest.mark.parametrize("asked", [(32, 4, 2, 8, 4), (16, 8, 4, 8, 4), (16, 4, 2, 8, 8)])
def test_the_operator_refuses_other_formats_by_name(asked):
    modelopt.load_modelopt()
    block, *formats = asked
    with pytest.raises(EngineError, match="NVFP4"):
        torch.ops.tensorrt.dynamic_block_quantize_op(torch.ones(1, 32), block, torch.tensor(1.0), *formats)


def test_a_checkpoints_input_scale_is_a_global_scale():
    data = torch.randn(4, 40, generator=torch.Generator().manual_seed(2)).bfloat16()
    scale = data.abs().amax().float() * (1 / 2688)
    assert torch.equal(fake_quant.round_to_nvfp4(data, scale), fake_quant.nvfp4_fake_quantize(data, data.abs().amax()))


def test_conv3d_is_registered_again(plan, samples):
    registry = modelopt.load_modelopt().QuantModuleRegistry
    before = registry[torch.nn.Conv3d].__bases__[0]
    modelopt.fake_quantize(load_model(checkpoint_path()), plan.tensors, run(samples[:1]), weights=False)
    assert registry[torch.nn.Conv3d].__bases__[0] is before
    assert registry.get_key(torch.nn.Conv3d) == "nn.Conv3d"


def test_conv3d_is_registered_again_after_a_failure(plan):
    registry = modelopt.load_modelopt().QuantModuleRegistry
    meanwhile = []

    def loop(model):
        meanwhile.append(torch.nn.Conv3d in registry)
        raise RuntimeError("no luck")

    with pytest.raises(EngineError, match="no luck"):
        modelopt.fake_quantize(load_model(checkpoint_path()), plan.tensors, loop, weights=False)
    assert meanwhile == [False]
    assert torch.nn.Conv3d in registry


def test_nothing_is_printed(plan, samples, capfd):
    modelopt.fake_quantize(load_model(checkpoint_path()), plan.tensors, run(samples[:1]))
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_denormals_stay_on(plan, samples):
    modelopt.fake_quantize(load_model(checkpoint_path()), plan.tensors, run(samples[:1]), weights=False)
    assert float(torch.tensor(2.0**-140) * 0.5) > 0


def test_a_failure_inside_modelopt_is_ours_with_its_cause(plan):
    def loop(model):
        raise KeyError("inside")

    with pytest.raises(EngineError, match="KeyError: 'inside'") as caught:
        modelopt.fake_quantize(load_model(checkpoint_path()), plan.tensors, loop)
    assert isinstance(caught.value.__cause__, KeyError)


def test_sites_that_saw_nothing_are_absent(plan):
    model = modelopt.fake_quantize(load_model(checkpoint_path()), plan.tensors, lambda model: None, weights=False)
    assert modelopt.input_amax(model, plan.tensors) == {}


def test_a_missing_quantizer_is_named(plan):
    with pytest.raises(EngineError, match=r"layers\.0\.mlp\.experts\.down_proj_input_quantizer"):
        modelopt.input_amax(load_model(checkpoint_path()), plan.tensors)


def test_the_release_is_checked(monkeypatch):
    monkeypatch.setattr(modelopt, "version", lambda name: "0.48.0")
    with pytest.raises(MissingDependency, match=r"0\.48\.0 is installed; expected nvidia-modelopt>=0\.47,<0\.48"):
        modelopt.modelopt_version()
    monkeypatch.setattr(modelopt, "version", lambda name: "0.47.3")
    assert modelopt.modelopt_version() == "0.47.3"


def test_an_absent_modelopt_names_the_extra(monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(modelopt, "version", absent)
    with pytest.raises(MissingDependency, match=r"pytest-q3omni\[quantize\]"):
        modelopt.modelopt_version()
