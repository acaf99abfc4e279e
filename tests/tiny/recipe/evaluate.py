"""How often the model is right on held-out input, and which experts its tokens reach."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from transformers import Qwen3OmniMoeForConditionalGeneration, Qwen3OmniMoeProcessor

from recipe.batches import Batch, make_batch
from recipe.routing import tokens_per_expert, watch_routers
from recipe.speech import IGNORED, SpeechBatch, make_speech, talker_logits
from recipe.task import CODES, KINDS, LETTERS, draw_sample

HELD_OUT_SEED = 987_654
"""Far from every training seed; the wordings are held out anyway."""


def held_out_batches(
    processor: Qwen3OmniMoeProcessor, samples: int, seed: int = HELD_OUT_SEED, batch: int = 64
) -> Iterator[Batch]:
    """`samples` per kind, in batches of at most `batch`."""
    rng = np.random.default_rng(seed)
    for kind in KINDS:
        for start in range(0, samples, batch):
            count = min(batch, samples - start)
            yield make_batch([draw_sample(kind, rng, held_out=True) for _ in range(count)], processor)


@torch.no_grad()
def evaluate(
    model: Qwen3OmniMoeForConditionalGeneration,
    processor: Qwen3OmniMoeProcessor,
    samples: int = 192,
    seed: int = HELD_OUT_SEED,
) -> dict[str, float]:
    """Share of right answers, 0..1: `text`, `audio`, `image` (whole answers with their end) and `codes`.

    An answer counts only if each of its tokens is the most likely one. `codes` counts frames of speech, teacher-forced,
    over all three kinds of question: all codes of a frame must be right, and the end code in its place.
    """
    rng = np.random.default_rng(seed + 1)
    letters = torch.tensor(processor.tokenizer.convert_tokens_to_ids(list(LETTERS)))
    accepted = model.config.talker_config.accept_hidden_layer
    hits: dict[str, list[torch.Tensor]] = {kind: [] for kind in (*KINDS, "codes")}
    for batch in held_out_batches(processor, samples, seed):
        out = model.thinker(**batch.inputs, output_hidden_states=True, use_cache=False)
        answers = out.logits[:, -batch.answer_length - 1 : -1].argmax(-1)
        hits[batch.kind].append((answers == batch.answers).all(dim=1))
        words = rng.integers(len(letters), size=(len(answers), 3))
        speech = make_speech(
            model, batch, letters[torch.from_numpy(words)], out.hidden_states[0], out.hidden_states[accepted]
        )
        hits["codes"].append(_right_frames(model, batch, speech))
    return {kind: torch.cat(right).float().mean().item() for kind, right in hits.items()}


def _right_frames(model: Qwen3OmniMoeForConditionalGeneration, batch: Batch, speech: SpeechBatch) -> torch.Tensor:
    """bool `(frames,)` over all rows of a batch, end codes included."""
    first, residual = talker_logits(model, batch, speech)
    end = model.config.talker_config.codec_eos_token_id
    control = torch.arange(CODES, first.shape[-1])
    first[..., control[control != end]] = -torch.inf  # `generate` suppresses them
    right = first.argmax(-1) == speech.first
    right &= (residual.argmax(-1) == speech.codes[..., 1:]).all(-1) | (speech.first == end)
    return right[speech.first != IGNORED]


@torch.no_grad()
def expert_tokens(
    model: Qwen3OmniMoeForConditionalGeneration,
    processor: Qwen3OmniMoeProcessor,
    samples: int = 20,
    seed: int = HELD_OUT_SEED,
) -> dict[str, np.ndarray]:
    """Tokens that each thinker expert gets, per kind of question: int64 `(layers, experts)`; padding is not counted."""
    counts: dict[str, np.ndarray] = {}
    top = model.config.thinker_config.text_config.num_experts_per_tok
    for batch in held_out_batches(processor, samples, seed):
        with watch_routers(model.thinker.model.layers) as routers:
            model.thinker(**batch.inputs, use_cache=False)
        tokens = [tokens_per_expert(logits, batch.inputs["attention_mask"], top) for logits in routers]
        counts[batch.kind] = counts.get(batch.kind, 0) + torch.stack(tokens).numpy()
    return counts
