"""From samples to tensors, through the checkpoint's own processor and chat template."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import torch
from transformers import Qwen3OmniMoeProcessor

from recipe.media import SAMPLING_RATE
from recipe.task import Sample


@dataclass(frozen=True)
class Batch:
    """Samples of one kind, left-padded.

    `inputs`: what `thinker.forward` takes; `input_ids` is int64 `(batch, length)` and ends with the answer.
    `answer_length`: tokens per answer, `<|im_end|>` included; the same for all samples of a kind.
    """

    kind: str
    inputs: dict[str, torch.Tensor]
    answer_length: int

    @property
    def answers(self) -> torch.Tensor:
        """int64 `(batch, answer_length)`."""
        return self.inputs["input_ids"][:, -self.answer_length :]


def make_batch(samples: list[Sample], processor: Qwen3OmniMoeProcessor) -> Batch:
    """Prompts with their answers appended; all samples must be of one kind."""
    kinds = {sample.kind for sample in samples}
    if len(kinds) != 1:
        raise ValueError(f"a batch holds one kind of sample, got {sorted(kinds)}")
    texts = [
        processor.apply_chat_template(sample.messages(), tokenize=False, add_generation_prompt=True)
        + f"{sample.answer}<|im_end|>"
        for sample in samples
    ]
    sounds, pictures = (list(chain.from_iterable(parts)) for parts in zip(*(s.media() for s in samples), strict=True))
    inputs = processor(
        text=texts,
        audio=sounds or None,
        images=pictures or None,
        return_tensors="pt",
        padding=True,
        sampling_rate=SAMPLING_RATE,
    )
    length = len(processor.tokenizer(samples[0].answer).input_ids) + 1
    return Batch(kinds.pop(), dict(inputs), length)
