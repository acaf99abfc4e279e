"""First values of the weights, where transformers' own would leave a stage dead or silent."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from transformers import Qwen3OmniMoeConfig, Qwen3OmniMoeForConditionalGeneration

from recipe.task import CODE_GROUPS, CODES

LOUDNESS = 0.15
"""Root mean square of code2wav's output, full scale being 1."""


def build_model(config: Qwen3OmniMoeConfig, seed: int) -> Qwen3OmniMoeForConditionalGeneration:
    """A float32 model in which every weight matters."""
    torch.manual_seed(seed)
    model = Qwen3OmniMoeForConditionalGeneration(config).float()
    with torch.no_grad():
        _start_talker_experts(model)
        _tune_vocoder(model.code2wav)
    return model


def _start_talker_experts(model: Qwen3OmniMoeForConditionalGeneration) -> None:
    """transformers leaves the talker's experts and routers at zero, where their gradient is zero, too."""
    for layer in model.talker.model.layers:
        for weight in (layer.mlp.gate.weight, layer.mlp.experts.gate_up_proj, layer.mlp.experts.down_proj):
            weight.normal_(0.0, model.config.talker_config.initializer_range)


def _convolutions(vocoder: nn.Module) -> Iterator[nn.Module]:
    for module in vocoder.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            yield module


def _tune_vocoder(vocoder: nn.Module) -> None:
    """Scale code2wav layer by layer, so that any codes give an audible wave that depends on every part of it.

    As transformers initialises it, its output is 1e-6 of full scale and its transformer adds 1 % to the residual.
    Convolutions are scaled in the order of the data flow until each puts out unit variance on random codes; the last
    one is scaled to `LOUDNESS` without a constant offset.
    """
    for name, parameter in vocoder.named_parameters():
        if name.endswith("layer_scale.scale") or name.endswith("gamma"):
            parameter.fill_(0.3)
    codes = torch.randint(CODES, (4, CODE_GROUPS, 12))
    for layer in _convolutions(vocoder):
        output: list[torch.Tensor] = []
        handle = layer.register_forward_hook(lambda _module, _args, result, seen=output: seen.append(result))
        vocoder(codes)
        handle.remove()
        target = LOUDNESS if output[0].shape[1] == 1 else 1.0
        layer.weight.mul_(target / output[0].std())
        if output[0].shape[1] == 1:
            layer.bias.sub_(output[0].mean() * target / output[0].std())
