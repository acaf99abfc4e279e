"""Train the tiny Qwen3-Omni on the worlds of `task` and write it as a checkpoint.

From the folder `tests/tiny`, in about three minutes on one core:

    python -m recipe.train OUT

Only the training runs with denormals flushed to zero; the weights are stored as bfloat16.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import Qwen3OmniMoeForConditionalGeneration, Qwen3OmniMoeProcessor

from recipe.batches import Batch, make_batch
from recipe.checkpoint import load_processor, write_checkpoint, write_processor
from recipe.config import build_config
from recipe.evaluate import evaluate
from recipe.routing import balance_loss, watch_routers
from recipe.speech import IGNORED, SpeechBatch, make_speech, talker_logits
from recipe.task import LETTERS, draw_sample
from recipe.weights import build_model

SEED = 7
STEPS = 700
BATCH = 32
ROTATION = ("text", "audio", "text", "image")
"""One kind per step, in turn. The balance loss then evens out the experts within each kind, not only on average."""

LEARNING_RATE = 3e-3
WARM_UP = 40
BALANCE = 0.02
"""Weight of the routers' balance loss: with it every expert gets tokens of every modality."""

SMOOTHING = 0.05
"""Label smoothing: bounded logits keep the answers' probabilities sensitive to damaged weights."""


def _learning_rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / steps)) + 1e-3


def _thinker_loss(
    model: Qwen3OmniMoeForConditionalGeneration, batch: Batch
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Cross entropy of the answer's tokens, `<|im_end|>` included, plus the balance loss; and all hidden states."""
    with watch_routers(model.thinker.model.layers) as routers:
        out = model.thinker(**batch.inputs, output_hidden_states=True, use_cache=False)
    top = model.config.thinker_config.text_config.num_experts_per_tok
    balance = balance_loss(routers, batch.inputs["attention_mask"], top)
    logits = out.logits[:, -batch.answer_length - 1 : -1].flatten(0, 1)
    loss = cross_entropy(logits, batch.answers.flatten(), label_smoothing=SMOOTHING)
    return loss + BALANCE * balance, out.hidden_states


def _talker_loss(model: Qwen3OmniMoeForConditionalGeneration, batch: Batch, speech: SpeechBatch) -> torch.Tensor:
    """Cross entropy of all four codes of every frame and of the end code, plus the balance loss."""
    with watch_routers(model.talker.model.layers) as routers:
        first, residual = talker_logits(model, batch, speech)
    balance = balance_loss(routers, speech.mask, model.config.talker_config.text_config.num_experts_per_tok)
    voiced = (speech.first != IGNORED) & (speech.first != model.config.talker_config.codec_eos_token_id)
    codes = speech.codes[voiced][:, 1:].flatten()
    return (
        cross_entropy(first.flatten(0, 1), speech.first.flatten(), ignore_index=IGNORED, label_smoothing=SMOOTHING)
        + cross_entropy(residual[voiced].flatten(0, 1), codes, label_smoothing=SMOOTHING)
        + BALANCE * balance
    )


def train(
    processor: Qwen3OmniMoeProcessor,
    seed: int = SEED,
    steps: int = STEPS,
    log: Callable[[str], object] = lambda line: None,
) -> Qwen3OmniMoeForConditionalGeneration:
    """Train all stages but code2wav from scratch; returns the float32 model.

    Every step teaches the thinker one kind of question, and the talker to speak random letters after it. Sets torch
    to one thread: on shared cores two are slower.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        model = build_model(build_config(processor.tokenizer), seed).train()
        _fit(model, processor, np.random.default_rng(seed), steps, log)
    finally:
        torch.set_flush_denormal(False)
    return model.eval()


def _fit(
    model: Qwen3OmniMoeForConditionalGeneration,
    processor: Qwen3OmniMoeProcessor,
    rng: np.random.Generator,
    steps: int,
    log: Callable[[str], object],
) -> None:
    trained = [parameter for name, parameter in model.named_parameters() if not name.startswith("code2wav")]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _learning_rate(step, steps))
    letters = torch.tensor(processor.tokenizer.convert_tokens_to_ids(list(LETTERS)))
    accepted = model.config.talker_config.accept_hidden_layer
    for step in range(steps):
        kind = ROTATION[step % len(ROTATION)]
        batch = make_batch([draw_sample(kind, rng) for _ in range(BATCH)], processor)
        answer, hidden = _thinker_loss(model, batch)
        words = rng.integers(len(letters), size=(BATCH, int(rng.integers(1, 5))))
        speech = make_speech(model, batch, letters[torch.from_numpy(words)], hidden[0], hidden[accepted])
        voice = _talker_loss(model, batch, speech)
        optimizer.zero_grad(set_to_none=True)
        (answer + voice).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            log(f"step {step:4d} of {steps}: {kind:5s} answer {answer.item():.4f}, speech {voice.item():.4f}")


def main(arguments: list[str] | None = None) -> None:
    """Train, write the checkpoint, and print how often the stored model is right on held-out input."""
    parser = argparse.ArgumentParser(description="Train the tiny Qwen3-Omni and write it as a checkpoint.")
    parser.add_argument("out", type=Path, help="folder for the checkpoint")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        processor = write_processor(Path(folder))
        model = train(processor, options.seed, options.steps, log=lambda line: sys.stdout.write(line + "\n"))
    write_checkpoint(model, options.out)
    stored = Qwen3OmniMoeForConditionalGeneration.from_pretrained(options.out, dtype="auto").eval()
    report = evaluate(stored, load_processor(options.out))
    sys.stdout.write("".join(f"{kind}: {share:.1%} right on held-out input\n" for kind, share in report.items()))


if __name__ == "__main__":
    main()
