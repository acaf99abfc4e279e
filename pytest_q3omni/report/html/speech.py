"""How a checkpoint speaks: KL per codebook, spoken answers, and the two spectrograms of the first one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_q3omni.parity.spectrogram import SAMPLING_RATE, hertz_of_mel, mel_of_hertz
from pytest_q3omni.records import SpeechAgreement
from pytest_q3omni.report.html.answers import Dots, dots
from pytest_q3omni.report.html.png import data_uri

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Picture = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spectrogram:
    """One picture and what it says in words."""

    name: str
    uri: str
    summary: str


@dataclass(frozen=True, slots=True)
class Spectrograms:
    """Pictures with one colour scale, `low` to `high` decibels; `bar` shows it. ticks: (per cent, label).

    frequencies: from the top to the bottom. seconds: from left to right.
    """

    pictures: list[Spectrogram]
    low: float
    high: float
    bar: str
    frequencies: list[tuple[float, str]]
    seconds: list[tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Speech:
    """One numerics."""

    agreement: SpeechAgreement
    codebooks: Dots | None
    spectrograms: Spectrograms | None


def speech(agreement: SpeechAgreement) -> Speech:
    """The figures of one `Parity.speech`."""
    rows = [(f"codebook {index}", row) for index, row in enumerate(agreement.codebooks)]
    what = f"Mean KL divergence of each codebook, {agreement.numerics}"
    return Speech(agreement, dots(rows, what) if rows else None, _spectrograms(agreement))


def _spectrograms(agreement: SpeechAgreement) -> Spectrograms | None:
    """None where there is no picture to draw."""
    import numpy as np

    found = {name: np.array(rows, np.float64) for name, rows in agreement.spectrograms.items() if rows and rows[0]}
    if not found:
        return None
    low, high = min(float(picture.min()) for picture in found.values()), max(float(p.max()) for p in found.values())
    pictures = [_picture(name, picture, low, high) for name, picture in found.items()]
    length = agreement.spectrogram_seconds
    seconds = [(50.0 * part, f"{length * part / 2:.3g} s") for part in range(3)]
    return Spectrograms(pictures, low, high, data_uri([bytes(range(256))]), _frequencies(), seconds)


def _picture(name: str, picture: Picture, low: float, high: float) -> Spectrogram:
    import numpy as np

    levels = 255 * (picture - low) / ((high - low) or 1.0)
    uri = data_uri([row.tobytes() for row in levels.round().astype(np.uint8)[::-1]])
    return Spectrogram(name, uri, f"spectrogram, {name}: {picture.mean():.1f} dB on average")


def _frequencies() -> list[tuple[float, str]]:
    """Evenly spaced on the mel scale, as the pictures' rows are."""
    top = mel_of_hertz(SAMPLING_RATE / 2)
    hertz = [float(hertz_of_mel(top * part / 4)) for part in range(5)]
    return [(100 - 25.0 * part, f"{frequency / 1000:.2g} kHz") for part, frequency in enumerate(hertz)]
