"""W4A4 on transformers: the inputs of packed layers are rounded to NVFP4, too, as Thor and Blackwell compute them.

Nothing of transformers is patched: dense layers get a forward pre-hook, fused experts an implementation registered with
transformers' own registry. Weights are expected dequantized (BF16). Activations are rounded along their last axis, per
token in blocks of 16, with the file's input scale as global scale; the result is BF16, and so is every product. This is
what ModelOpt's fake quantization computes, and engines on real hardware, but for the order of their sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_q3omni.engines.fake_quant import round_to_nvfp4
from pytest_q3omni.errors import Inconsistent
from pytest_q3omni.omni.naming import experts_module

if TYPE_CHECKING:
    import torch

IMPLEMENTATION = "q3omni_w4a4"
_SCALES = "_q3omni_input_scales"  # on an experts module: (gate_up scales, down scales), one per expert
_NOISE = "_q3omni_noise"  # on a module with weights: what `add_noise` draws from
_HALF_STEP = 2.0**-8
"""Half a unit in the last place of a BF16 number just above a power of two, as a share of it; of one just below, a
whole unit: 7 bits follow the leading one."""


def quantize_activations(inputs: torch.Tensor, input_scale: torch.Tensor) -> torch.Tensor:
    """`inputs` (..., features) to NVFP4 and back with the global scale `input_scale` (0-dim); same shape and dtype.

    NaN stays NaN: the kernel that `round_to_nvfp4` follows turns it into a number, and a broken weight into an answer.
    """
    import torch

    return torch.where(inputs.isnan(), inputs, round_to_nvfp4(inputs, input_scale))


def quantize_inputs(model: torch.nn.Module, input_scales: Mapping[str, float]) -> None:
    """Make `model` round the inputs of every module in `input_scales` (file names: one entry per expert projection).

    Raises:
        Inconsistent: the model has no such module, or experts of one layer are only partly listed.
    """
    experts: dict[str, dict[str, float]] = {}
    for name, scale in input_scales.items():
        owner = experts_module(name)
        if owner:
            experts.setdefault(owner, {})[name] = scale
        else:
            _hook(_submodule(model, name), scale)
    for owner, scales in experts.items():
        _equip(_submodule(model, owner), owner, scales)
    if experts:
        _register()
        _select(model, {owner.partition(".")[0] for owner in experts})


def add_noise(model: torch.nn.Module, seed: int) -> None:
    """Move the inputs of all linear layers, routers and experts by one BF16 step here and there, towers included.

    Each is multiplied by 1 + u, u drawn evenly from [-2^-8, 2^-8], and is BF16 again: of numbers spread evenly over an
    octave on a logarithmic scale 1 - 1/(2 ln 2) = 28 % then come out one unit in the last place away. That is what
    another implementation of the same layers does: a product of which one factor was rounded to BF16 before differs in
    a quarter of all cases from one that is rounded once (vLLM's RMSNorm and SiLU x up against transformers'). Where
    `quantize_inputs` rounds to NVFP4, the noise comes first. What it does to a model's answers is how near two correct
    implementations can be expected to come. The same seed gives the same noise on the same device.
    """
    import torch

    def before(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (_moved(inputs[0], module), *inputs[1:])

    for module in model.modules():
        weight = getattr(module, "weight", None)
        multiplies = (
            isinstance(weight, torch.Tensor) and weight.dim() == 2 and not isinstance(module, torch.nn.Embedding)
        )
        if multiplies or hasattr(module, "gate_up_proj"):
            device = next(module.parameters()).device
            setattr(module, _NOISE, torch.Generator(device).manual_seed(seed))
        if multiplies:
            module.register_forward_pre_hook(before, prepend=True)


def _moved(inputs: torch.Tensor, module: torch.nn.Module) -> torch.Tensor:
    """The inputs as `add_noise` wants them: as they are, without it."""
    import torch

    noise = getattr(module, _NOISE, None)
    if noise is None:
        return inputs
    steps = 2 * torch.rand(inputs.shape, generator=noise, device=inputs.device) - 1
    return (inputs.float() * (1 + _HALF_STEP * steps)).to(inputs.dtype)


def _submodule(model: torch.nn.Module, name: str) -> torch.nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise Inconsistent(
            "an input scale for a module that the model does not have", where=name, expected="a module of the config",
            fix="`q3omni verify` says whether tensors and config belong together",
        ) from error  # fmt: skip


def _hook(module: torch.nn.Module, scale: float) -> None:
    import torch

    value = torch.tensor(scale, dtype=torch.float32)

    def before(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (quantize_activations(inputs[0], value.to(inputs[0].device)), *inputs[1:])

    module.register_forward_pre_hook(before)


def _equip(module: Any, owner: str, scales: Mapping[str, float]) -> None:
    import torch

    numbers = range(module.num_experts)
    wanted = {kind: [f"{owner}.{number}.{kind}_proj" for number in numbers] for kind in ("gate", "up", "down")}
    absent = [name for names in wanted.values() for name in names if name not in scales]
    if absent:
        raise Inconsistent(
            f"{len(absent)} of its experts' projections have no input scale, first {absent[0]}", where=owner,
            expected="one for each", fix="calibrate and pack again",
        )  # fmt: skip
    # gate and up are one matrix in memory and share an input; where a file disagrees, engines take the larger scale
    gate_up = [max(scales[gate], scales[up]) for gate, up in zip(wanted["gate"], wanted["up"], strict=True)]
    down = [scales[name] for name in wanted["down"]]
    setattr(module, _SCALES, (torch.tensor(gate_up), torch.tensor(down)))


def _register() -> None:
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    ALL_EXPERTS_FUNCTIONS.register(IMPLEMENTATION, _experts_forward)


def _select(model: Any, stages: set[str]) -> None:
    for stage in sorted(stages):
        getattr(model, stage).set_experts_implementation(IMPLEMENTATION)


def _experts_forward(
    module: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """transformers' eager loop over the experts that got tokens, with both inputs rounded where the layer is packed.

    Shapes: hidden_states (tokens, hidden), top_k_index and top_k_weights (tokens, top_k); returns (tokens, hidden).
    """
    import torch
    from torch.nn.functional import linear

    scales = getattr(module, _SCALES, None)

    def rounded(inputs: torch.Tensor, which: int, expert: int) -> torch.Tensor:
        given = _moved(inputs, module)
        return given if scales is None else quantize_activations(given, scales[which][expert].to(given.device))

    result = torch.zeros_like(hidden_states)
    for expert in top_k_index.unique().tolist():
        token, choice = torch.where(top_k_index == expert)
        inputs = rounded(hidden_states[token], 0, expert)
        gate, up = linear(inputs, module.gate_up_proj[expert]).chunk(2, dim=-1)
        inner = rounded(module.act_fn(gate) * up, 1, expert)
        output = linear(inner, module.down_proj[expert]) * top_k_weights[token, choice, None]
        result.index_add_(0, token, output.to(result.dtype))
    return result
