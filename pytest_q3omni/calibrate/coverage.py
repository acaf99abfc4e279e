"""Which experts the tokens of each modality went to, counted at the routers while conversations run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

MODALITIES = ("text", "image", "audio")
"""A token's modality: that of the placeholder it stands at; everything that is no placeholder is text."""

_ROUTER = ".mlp.gate"


class Coverage:
    """Counts tokens per expert and modality in the thinker's layers.

    A sample's counts are pending until `keep`: a sample that fails halfway leaves no trace.
    """

    def __init__(self, model: Any) -> None:
        import torch

        self._routers = {
            f"{name.removesuffix('gate')}experts": module
            for name, module in model.named_modules()
            if name.startswith("thinker.") and name.endswith(_ROUTER) and hasattr(module, "num_experts")
        }
        self.counts = {
            name: torch.zeros(len(MODALITIES), module.num_experts, dtype=torch.int64)
            for name, module in self._routers.items()
        }
        config = model.config.thinker_config
        self._placeholders = {"image": config.image_token_id, "audio": config.audio_token_id}
        self._pending: list[tuple[str, torch.Tensor]] = []
        self._kinds: torch.Tensor | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks on every router while this is open."""
        handles = [module.register_forward_hook(self._hook(name)) for name, module in self._routers.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def begin(self, inputs: Mapping[str, torch.Tensor]) -> None:
        """Announce a sample by its inputs: input_ids and attention_mask, both (1, tokens)."""
        import torch

        ids = inputs["input_ids"]
        kinds = torch.zeros_like(ids)
        for modality, token in self._placeholders.items():
            kinds[ids == token] = MODALITIES.index(modality)
        kinds[inputs["attention_mask"] == 0] = -1
        self._kinds, self._pending = kinds.flatten().cpu(), []

    def keep(self) -> None:
        """Count what the announced sample did."""
        for name, counts in self._pending:
            self.counts[name] += counts
        self._pending = []

    def _hook(self, name: str) -> Any:
        def count(_: Any, __: Any, output: tuple[torch.Tensor, ...]) -> None:
            self._pending.append((name, self._count(name, output[2].detach().cpu())))

        return count

    def _count(self, name: str, chosen: torch.Tensor) -> torch.Tensor:
        """int64 (modalities, experts) of `chosen` (tokens, top_k). Tokens generated after the prompt are text."""
        import torch

        result = torch.zeros_like(self.counts[name])
        kinds = self._kinds
        if kinds is None or kinds.numel() != len(chosen):
            kinds = torch.zeros(len(chosen), dtype=torch.int64)
        for position in range(len(MODALITIES)):
            result[position] = torch.bincount(chosen[kinds == position].flatten(), minlength=result.shape[1])
        return result

    def tokens(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Modality -> experts module -> tokens per expert, as in a `CalibrationRecord`."""
        return {
            modality: {name: tuple(counts[position].tolist()) for name, counts in self.counts.items()}
            for position, modality in enumerate(MODALITIES)
        }
