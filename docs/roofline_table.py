"""The roofline in figures: writes `roofline.md` beside this file. Seconds, without torch.

python docs/roofline_table.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest_q3omni
from pytest_q3omni.omni.config import read_json
from pytest_q3omni.plan.build import build_plan
from pytest_q3omni.plan.recipes import recipe, recipe_names
from pytest_q3omni.serve.decoder import Decoder, decoder_of
from pytest_q3omni.serve.diagnosis import BOUND
from pytest_q3omni.serve.hardware import DEVICES, TERA, Hardware
from pytest_q3omni.serve.roofline import Prediction, predict_decode, predict_prefill
from pytest_q3omni.serve.throughput import AT_ONCE, NEW_TOKENS, PREFILLS, PROMPT_TOKENS

sys.path.insert(0, str(Path(__file__).parent))

from as_markdown import table

PAGE = Path(__file__).with_name("roofline.md")
CONFIG = Path(pytest_q3omni.__file__).parent / "omni" / "qwen3_omni_30b_config.json"
FIRST = "Jetson AGX Thor"
CONTEXT = PROMPT_TOKENS + NEW_TOKENS / 2

HEAD = """# The roofline

<!-- Written by `python docs/roofline_table.py`: change the text there, then run it again. -->

How fast could this device be at best? A step of decoding takes at least as long as its bytes take through the memory,
and as its operations take through the tensor cores. The longer of the two is the roofline, and a benchmark prints how
many per cent of it were reached. All figures on this page are **predicted**: arithmetic on a config and a data sheet.
What was measured is in [results.md](results.md).

## What is counted

One step makes one token for each sequence. Only the thinker's text decoder works: pictures and sound are encoded once,
before, and talker, code predictor and code2wav take no part in text.

- Read whole, whatever the batch: attention, router, norms, lm_head.
- Experts: those that are touched. Of E experts a token takes k; under even routing a batch of B tokens touches
  E (1 - (1 - k/E)^B) of a layer's, which is 8 of 128 for one token, 52 for 8, and 126 for 64.
- One row of the embeddings for each sequence.
- The KV cache: read for every token of the context, written for the new one. Two bytes a number; one where the config
  declares an FP8 cache.
- Operations: 2 for each weight that works on a token, and the attention over the context. NVFP4 weights with NVFP4
  inputs (W4A4) run at the FP4 rate where the device has FP4, else they are widened to BF16. W4A16 always runs at the
  BF16 rate, FP8 at FP8's.
- A prompt is one step with all its tokens. Short ones touch nearly all experts and are bound by the memory; long ones
  are bound by the tensor cores.

Bytes are those of the files, scales included; a weight in FP32 counts as BF16, since engines load it so.

## What is not counted

Launching kernels, routing, activations, sampling, what the engine does between steps: no figure can reach the roofline.
A benchmark's rate of decoding is of whole runs, so it has the prompt in it, which is a few per cent.

One assumption can err to the other side. Even routing touches the most distinct experts; a router with favourites
touches fewer, and reads less than is counted here. For one sequence there is no difference.

Below {bound:.0f} % of the roofline a benchmark says what to look at first: eager mode, emulated or weight-only kernels
where the device has FP4, default settings of the experts' kernel, a build without this architecture, or a step so short
that launching its kernels takes longer.
"""

NEXT_TO_IT = """## Next to what others measured

| on Thor, Qwen3-30B-A3B, text, 1 at once | tokens/s | of the roofline in BF16 | of that in `nvfp4-default` |
|---|---:|---:|---:|
{rows}

61 is of NVIDIA's Jetson AI Lab (`benchmarks.json`), which does not state the precision; it lies above what BF16
weights allow, so they were not BF16. 81 is of NVIDIA's TensorRT Edge-LLM 0.7 with INT4 weights (GPTQ), another format,
whose bytes are near those of NVFP4. Qwen3-30B-A3B has the thinker's decoder (48 layers, 128 experts of 768), so its
roofline is the thinker's. No published pair of BF16 and NVFP4 on Thor was found.

## The devices

Dense rates; vendors mostly state them with sparsity, which is twice as much and which no such checkpoint has. Rates
hold at boost clock, which a device does not keep up.

{devices}

{sources}
"""
PUBLISHED = (("Jetson AI Lab, precision not stated", 61.0), ("TensorRT Edge-LLM, INT4", 81.3))


def decoder(name: str) -> Decoder:
    """The full-size thinker's decoder as a recipe stores it."""
    plan = build_plan(CONFIG, name)
    return decoder_of(read_json(CONFIG), (target for tensor in plan.tensors for target in tensor.targets))


def points() -> Iterator[tuple[str, Callable[[Decoder, Hardware], Prediction]]]:
    """What the serving benchmarks measure: heading, and its prediction."""
    for number in AT_ONCE:
        yield f"decode at {number}", lambda d, h, n=number: predict_decode(d, h, at_once=n, context=CONTEXT)
    for length in PREFILLS:
        yield f"prefill {length}", lambda d, h, n=length: predict_prefill(d, h, prompt_tokens=n)


def rates(device: Hardware, decoders: dict[str, Decoder]) -> str:
    """A device's table: recipes by what is measured. A figure bound by the tensor cores has a mark."""
    rows = []
    for name, found in decoders.items():
        cells = [predict(found, device) for _, predict in points()]
        rows.append((f"`{name}`", *(f"{c.tokens_per_second:,.0f}{'*' * (c.bound == 'compute')}" for c in cells)))
    return table(("predicted tokens/s", *(heading for heading, _ in points())), rows)


def step(decoders: dict[str, Decoder]) -> str:
    """Where the bytes of one token go."""
    shown = {name: predict_decode(d, DEVICES[FIRST], at_once=1, context=CONTEXT) for name, d in decoders.items()}
    parts = next(iter(shown.values())).parts
    rows = [(part, *(f"{one.parts[part].bytes / 1e6:,.1f}" for one in shown.values())) for part in parts]
    rows.append(("**all**", *(f"{one.bytes / 1e6:,.1f}" for one in shown.values())))
    return table(("MB for one token, 1 at once", *(f"`{name}`" for name in shown)), rows)


def compared(decoders: dict[str, Decoder]) -> str:
    """Published figures as per cent of the roofline on Thor."""
    bounds = [
        predict_decode(decoders[n], DEVICES[FIRST], at_once=1, context=CONTEXT) for n in ("bf16", "nvfp4-default")
    ]
    return "\n".join(
        f"| {what} | {figure:g} | {' | '.join(f'{bound.percent(figure):.0f} %' for bound in bounds)} |"
        for what, figure in PUBLISHED
    )


def listed() -> str:
    """The devices' figures."""
    rows = []
    for one in DEVICES.values():
        flops = (f"{rate / TERA:,.0f}" if rate else "none" for rate in (one.bf16, one.fp8, one.fp4))
        memory = f"{one.memory // 10**9} GB{', unified' if one.unified else ''}"
        rows.append((one.name, "{}.{}".format(*one.capability), f"{one.bandwidth / 1e9:,.0f}", *flops, memory))
    return table(("device", "capability", "GB/s", "BF16 TFLOP/s", "FP8", "FP4", "memory"), rows)


def page() -> str:
    """The whole page."""
    decoders = {name: decoder(name) for name in recipe_names()}
    parts = [HEAD.format(bound=BOUND), "## Where the bytes go\n", step(decoders), "\n## Predicted\n"]
    parts.append(
        f"Full size, thinker, text: {PROMPT_TOKENS} tokens in and {NEW_TOKENS} out (a context of {CONTEXT:.0f} in the "
        "mean), all sequences\ntogether; prompts of 512 and 8192 tokens alone. A star: bound by the tensor cores, not "
        "by the memory.\n"
    )
    parts += [f"- `{name}`: {recipe(name).summary}" for name in decoders]
    for one in DEVICES.values():
        parts.append(f"\n### {one.name} (*predicted*)\n\n{rates(one, decoders)}")
    sources = "\n".join(f"- {one.name}: {one.source}." for one in DEVICES.values())
    parts.append("\n" + NEXT_TO_IT.format(rows=compared(decoders), devices=listed(), sources=sources))
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
