"""A waveform as a picture: power in decibels, by mel-spaced frequency and time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLING_RATE = 24_000
"""Of code2wav's waveforms, in Hz (Qwen3-Omni's `code2wav`: 12.5 frames a second of 1920 samples)."""
BANDS, WINDOW = 48, 512
MOST_COLUMNS = 160
"""A picture wider than this shows no more on a page, and its figures are in the JSON."""
FLOOR = -80.0
"""Decibels below full scale that count as silence; 16-bit sound ends at -96."""


def spectrogram(waveform: NDArray[np.float32], samples: int) -> tuple[tuple[float, ...], ...]:
    """`BANDS` rows from low to high frequency, columns in time; decibels of full scale, one decimal.

    waveform: float32 in [-1, 1], at 24 kHz; padded with silence to `samples`, so that two pictures share their axis.
    """
    import numpy as np

    padded = np.pad(audible(waveform), (0, max(samples, WINDOW) - len(waveform)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)
    hop = max(WINDOW // 4, -(-len(windows) // MOST_COLUMNS))
    window = np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(windows[::hop] * window) * 2 / window.sum()) ** 2  # a full-scale sine has power 1
    decibels = 10 * np.log10(np.maximum(power @ _mel_bands().T, 10 ** (FLOOR / 10)))
    return tuple(tuple(row) for row in np.round(decibels.T, 1).tolist())


def audible(waveform: NDArray[np.float32]) -> NDArray[np.float64]:
    """The same in float64; what is no finite number is silence, as it is in a file of 16-bit integers."""
    import numpy as np

    return np.nan_to_num(waveform.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def mel_of_hertz(hertz: Any) -> Any:
    """The mel scale, 2595 log10(1 + f / 700), of a number or an array (O'Shaughnessy, Speech Communication, 1987)."""
    import numpy as np

    return 2595 * np.log10(1 + hertz / 700)


def hertz_of_mel(mel: Any) -> Any:
    """The inverse of `mel_of_hertz`."""
    return 700 * (10 ** (mel / 2595) - 1)


def _mel_bands() -> NDArray[Any]:
    """Triangles (BANDS, bins) that are evenly spaced on the mel scale; each sums to 1."""
    import numpy as np

    mel = mel_of_hertz(np.fft.rfftfreq(WINDOW, 1 / SAMPLING_RATE))
    edges = np.linspace(0, mel[-1], BANDS + 2)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.clip(np.minimum((mel - low) / (middle - low), (high - mel) / (high - middle)), 0, None)
    bands: NDArray[Any] = triangles / triangles.sum(axis=1, keepdims=True)
    return bands
