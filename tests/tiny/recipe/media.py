"""Tones and pictures, and the letters they stand for; in plain numpy, with writers for WAV and PNG files."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

SAMPLING_RATE = 16_000
"""Hz of every tone; the processor's rate."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "R": (220, 30, 30),
    "G": (30, 180, 40),
    "B": (30, 50, 220),
    "Y": (230, 220, 40),
    "C": (40, 210, 220),
    "M": (210, 40, 200),
    "W": (240, 240, 240),
    "K": (20, 20, 20),
}
"""Letter -> 8-bit RGB of a half: red, green, blue, yellow, cyan, magenta, white, black."""

TONES: dict[str, float] = {letter: 220.0 * 2 ** (index / 4) for index, letter in enumerate("ABCDEFGHIJKLMNOP")}
"""Letter -> Hz: 16 pitches from 220 Hz to 2960 Hz, a quarter of an octave apart."""


def tone(letter: str, rng: np.random.Generator | None = None, seconds: float | None = None) -> np.ndarray:
    """A sine wave for a letter of `TONES`: float32 `(samples,)` in -1..1 at 16 kHz.

    Without `rng`: 0.5 s, no noise. With it: any phase, 0.3 to 1.2 s, pitch within 1 %, loudness 0.2 to 0.9, white noise
    of 0.1 % to 3 % of full scale.
    """
    if rng is None:
        phase, cents, loudness, noise = 0.0, 0.0, 0.5, 0.0
        seconds = 0.5 if seconds is None else seconds
    else:
        phase, cents = rng.uniform(0, 2 * np.pi), rng.uniform(-0.01, 0.01)
        loudness, noise = rng.uniform(0.2, 0.9), 10 ** rng.uniform(-3, -1.5)
        seconds = float(rng.uniform(0.3, 1.2)) if seconds is None else seconds
    time = np.arange(int(seconds * SAMPLING_RATE)) / SAMPLING_RATE
    wave = loudness * np.sin(2 * np.pi * TONES[letter] * (1 + cents) * time + phase)
    if rng is not None:
        wave = wave + noise * rng.standard_normal(wave.shape)
    return np.clip(wave, -1, 1).astype(np.float32)


def picture(left: str, right: str, rng: np.random.Generator | None = None, size: int = 64) -> np.ndarray:
    """Two halves in two colours of `COLOURS`: uint8 `(size, size, 3)`.

    With `rng`: the border within 4 pixels of the middle, each half's colour off by up to 18 per channel, and pixel
    noise of standard deviation 0 to 12.
    """
    border, shift, noise = size // 2, np.zeros((2, 3)), 0.0
    if rng is not None:
        border += int(rng.integers(-4, 5))
        shift, noise = rng.uniform(-18, 18, (2, 3)), rng.uniform(0, 12)
    image = np.empty((size, size, 3))
    image[:, :border] = np.array(COLOURS[left]) + shift[0]
    image[:, border:] = np.array(COLOURS[right]) + shift[1]
    if rng is not None:
        image += noise * rng.standard_normal(image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def save_wav(path: Path, samples: np.ndarray, rate: int = SAMPLING_RATE) -> None:
    """Write float samples `(samples,)` in -1..1 as 16-bit mono WAV."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def save_png(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 pixels `(height, width, 3)` as PNG."""
    from PIL import Image  # only this function needs it

    Image.fromarray(pixels).save(path)
