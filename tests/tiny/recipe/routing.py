"""Which experts the tokens go to: for the balance loss in training, and to count coverage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def watch_routers(layers: nn.ModuleList) -> Iterator[list[torch.Tensor]]:
    """Collect the router logits of each decoder layer's next forward: float `(tokens, experts)`, one per layer.

    transformers sums its own balance loss over the layers before it compares the experts, so an idle expert of one
    layer hides behind a busy one of another, and for the talker it returns only the sum. Hence the hooks.
    """
    seen: list[torch.Tensor] = []
    handles = [
        layer.mlp.gate.register_forward_hook(lambda _module, _args, output: seen.append(output[0])) for layer in layers
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def tokens_per_expert(logits: torch.Tensor, mask: torch.Tensor, top: int) -> torch.Tensor:
    """int64 `(experts,)` from `(tokens, experts)`; `mask` `(batch, length)` is 0 where a token is padding."""
    chosen = logits.detach()[mask.flatten().bool()].topk(top).indices
    return torch.bincount(chosen.flatten(), minlength=logits.shape[-1])


def balance_loss(routers: list[torch.Tensor], mask: torch.Tensor, top: int) -> torch.Tensor:
    """The Switch Transformer's balance loss, per layer, then averaged: 1 where every expert gets the same share."""
    losses = []
    for logits in routers:
        share = tokens_per_expert(logits, mask, top) / (mask.sum() * top)
        weight = logits[mask.flatten().bool()].softmax(-1).mean(0)
        losses.append((share * weight).sum() * logits.shape[-1])
    return torch.stack(losses).mean()
