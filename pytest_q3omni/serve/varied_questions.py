"""Prompts in which no two parts are alike, for comparing arithmetic: nobody asks whether the answer is right.

The tokens of a picture of one colour, or of a pure tone, are much alike, and so is how they round: what two engines
then differ by says more of a few inputs than of the engines. These are made from numbers; pictures are the same
everywhere to the byte.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random

from pytest_q3omni.engines.vllm_questions import RATE, Picture, Question

_TEXTS = (
    "A ferry leaves the harbour at six and takes ninety minutes. When does it arrive, and how many trips fit in a day?",
    "Write three short rules for keeping a shared kitchen clean, and give a reason for each of them.",
    "Translate into French: the old clock in the hall has not worked since the winter of 1987.",
    "Which is heavier, a litre of water or a litre of oil? Explain it as you would to a child of ten.",
    "Sort these words by length and then by alphabet: pear, banana, fig, cherry, apple, kiwi, melon, date.",
    "In one sentence, what does a compiler do that an interpreter does not, and what does each of them cost?",
)
_SIDE, _SECONDS = 224, 2
_SEED = 20


def varied_questions() -> list[Question]:
    """Six of each modality: sentences, textured pictures, and sweeps with noise."""
    numbers = range(1, len(_TEXTS) + 1)
    looked, heard = (f"What is in this {what}? Describe it." for what in ("picture", "recording"))
    return [
        *(Question(f"text {number}", "text", text) for number, text in zip(numbers, _TEXTS, strict=True)),
        *(Question(f"image {n}", "image", looked, (Picture(bytes(_texture(n)), _SIDE, _SIDE),)) for n in numbers),
        *(Question(f"audio {n}", "audio", heard, sounds=(_sweep(n),)) for n in numbers),
    ]


def _texture(number: int) -> Iterator[int]:
    """RGB bytes, row by row: waves of another length and direction in each channel, with noise over them."""
    draw = Random(_SEED + number)
    waves = [(draw.uniform(0.02, 0.2), draw.uniform(0.02, 0.2), draw.uniform(0, 2 * math.pi)) for _ in range(3)]
    noise = draw.randbytes(3 * _SIDE**2)
    for place, grain in enumerate(noise):
        row, column = divmod(place // 3, _SIDE)
        down, right, start = waves[place % 3]
        yield int(96 * (1 + math.sin(down * row + right * column + start)) + grain / 4)


def _sweep(number: int) -> bytes:
    """float32 samples at `RATE`: a tone that rises from 150 Hz and more, with noise over it."""
    import numpy as np

    draw = Random(_SEED + number)
    low, rise = draw.uniform(150, 400), draw.uniform(200, 1500)
    times = np.arange(RATE * _SECONDS) / RATE
    noise = np.frombuffer(draw.randbytes(times.size), np.int8) / 128
    return (0.3 * np.sin(2 * np.pi * (low + rise * times / 2) * times) + 0.05 * noise).astype("<f4").tobytes()
