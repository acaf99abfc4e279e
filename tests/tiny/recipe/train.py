"""Train the tiny Qwen3-Omni."""

from __future__ import annotations

import math
import time

import numpy as np
import torch
from torch.nn import functional as F
from transformers import Qwen3OmniMoeForConditionalGeneration, Qwen3OmniMoeProcessor

from recipe.batches import IGNORED, Batch, SpeechBatch, make_batch, make_speech, talker_logits
from recipe.task import LETTERS, draw_sample

SCHEDULE = ("text", "audio", "text", "image")
def init_weights(model):
    std = model.config.initializer_range
    with torch.no_grad():
        for layer in model.talker.model.layers:
            for weight in (layer.mlp.gate.weight, layer.mlp.experts.gate_up_proj, layer.mlp.experts.down_proj):
                weight.normal_(0.0, std)

def thinker_loss(out, batch):
    n = batch.answer_length
    logits = out.logits[:, -n - 1 : -1]
    return F.cross_entropy(logits.flatten(0, 1), batch.answers.flatten())

def talker_loss(model, batch, speech, aux):
    first, residual, balance = talker_logits(model, batch, speech)
    loss = F.cross_entropy(first.flatten(0, 1), speech.first.flatten(), ignore_index=IGNORED)
    voiced = (speech.first != IGNORED) & (speech.first != model.config.talker_config.codec_eos_token_id)
    return loss + F.cross_entropy(residual[voiced].flatten(0, 1), speech.codes[voiced][:, 1:].flatten()) + aux * balance

def train(model, processor, steps=1000, batch_size=32, lr=3e-3, seed=0, aux=0.02, log=print, evaluate=None):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    params = [p for n, p in model.named_parameters() if not n.startswith("code2wav")]
    opt = torch.optim.AdamW(params, lr=lr, weight_decay=0.01, betas=(0.9, 0.98))
    sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: min(1, (s + 1) / 40) * (0.5 + 0.5 * math.cos(math.pi * s / steps)) + 1e-3)
    letters = torch.tensor(processor.tokenizer.convert_tokens_to_ids(list(LETTERS)))
    start = time.time()
    for step in range(steps):
        kind = SCHEDULE[step % len(SCHEDULE)]
        batch = make_batch([draw_sample(kind, rng) for _ in range(batch_size)], processor)
        out = model.thinker(**batch.inputs, output_hidden_states=True, output_router_logits=True, use_cache=False)
        lt = thinker_loss(out, batch)
        spoken = letters[torch.from_numpy(rng.integers(len(letters), size=(batch_size, int(rng.integers(1, 5)))))]
        speech = make_speech(model, batch, spoken, out.hidden_states[0], out.hidden_states[model.config.talker_config.accept_hidden_layer])
        ls = talker_loss(model, batch, speech, aux)
        loss = lt + aux * out.aux_loss + ls
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step(); sched.step()
        if step % 100 < 4 or step == steps - 1:
            log(f"{step:5d} {time.time()-start:6.1f}s {kind} thinker {lt.item():.4f} balance {out.aux_loss.item():.3f} talker {ls.item():.4f}")
        if evaluate and step % 200 == 199: log(evaluate(model))
