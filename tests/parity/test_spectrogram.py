"""Spectrograms: tones where they belong, silence at the floor, pictures that can be laid side by side."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_q3omni.parity.spectrogram import BANDS, FLOOR, MOST_COLUMNS, SAMPLING_RATE, WINDOW, spectrogram

pytestmark = pytest.mark.tiny

SECOND = SAMPLING_RATE


def tone(hertz, amplitude=1.0, samples=SECOND // 4):
    return (amplitude * np.sin(2 * math.pi * hertz * np.arange(samples) / SAMPLING_RATE)).astype(np.float32)


def edges():
    """Frequencies at which bands begin, peak and end: evenly spaced in 2595 log10(1 + f / 700)."""
    top = 2595 * math.log10(1 + SAMPLING_RATE / 2 / 700)
    return [700 * (10 ** (top * step / (BANDS + 1) / 2595) - 1) for step in range(BANDS + 2)]


@pytest.mark.parametrize("hertz", [94, 440, 1000, 2500, 5000, 8000, 11_000])
def test_a_tone_lights_its_band_and_little_else(hertz):
    rows = spectrogram(tone(hertz), SECOND // 4)
    column = [row[5] for row in rows]
    loudest = column.index(max(column))
    bin_width = SAMPLING_RATE / WINDOW
    assert edges()[loudest] - bin_width <= hertz <= edges()[loudest + 2] + bin_width
    far = [value for band, value in enumerate(column) if abs(edges()[band + 1] - hertz) > 0.5 * hertz + 8 * bin_width]
    assert max(far) < max(column) - 40


def test_bands_go_from_low_to_high():
    loudest = [np.array(spectrogram(tone(hertz), SECOND // 4))[:, 3].argmax() for hertz in (200, 800, 3000, 9000)]
    assert sorted(set(loudest)) == loudest


def test_decibels_are_of_full_scale():
    """Where bands are narrower than a bin of 46.9 Hz, a full-scale sine has the power 1."""
    loud, half = (np.array(spectrogram(tone(3 * SAMPLING_RATE / WINDOW, size), SECOND // 4)).max() for size in (1, 0.5))
    assert loud == pytest.approx(0.0, abs=2.5)
    assert loud - half == pytest.approx(20 * math.log10(2), abs=0.11)


def test_noise_is_as_loud_in_every_band():
    """Bands are means, not sums: the wide ones at the top are not louder for it. And none is too narrow for a bin."""
    noise = np.random.default_rng(5).normal(size=4 * SECOND).astype(np.float32) / 8
    loud = 10 * np.log10((10 ** (np.array(spectrogram(noise, len(noise))) / 10)).mean(axis=1))
    assert loud[1:].max() - loud[1:].min() < 3
    assert abs(loud[0] - loud[1:].mean()) < 6, "half of the lowest band's bin is the mirror of the other half"


def test_silence_is_the_floor():
    rows = spectrogram(np.zeros(5000, np.float32), 5000)
    assert {value for row in rows for value in row} == {FLOOR}
    assert {value for row in spectrogram(np.zeros(0, np.float32), 0) for value in row} == {FLOOR}
    assert {value for row in spectrogram(np.full(900, math.nan, np.float32), 900) for value in row} == {FLOOR}
    faint = np.array(spectrogram(tone(1000, 1e-6), 6000))
    assert faint.min() == faint.max() == FLOOR


def test_two_pictures_of_the_same_seconds_share_their_axes():
    long, short = tone(1000), tone(1000, samples=2000)
    first, second = (np.array(spectrogram(wave, len(long))) for wave in (long, short))
    assert first.shape == second.shape == (BANDS, first.shape[1])
    assert first[:, -1].max() > -30
    assert set(second[:, -1].tolist()) == {FLOOR}, "what is over is silent"
    assert first[:, 0].tolist() == second[:, 0].tolist()


def test_time_goes_from_left_to_right():
    wave = np.concatenate([np.zeros(6000, np.float32), tone(1000, samples=6000)])
    loud = np.array(spectrogram(wave, len(wave))).max(axis=0)
    half = len(loud) // 2
    assert set(loud[: half - 4].tolist()) == {FLOOR}
    assert loud[half + 4 :].min() > -30


@settings(max_examples=25)
@given(st.integers(1, 60 * SECOND))
@example(WINDOW + MOST_COLUMNS * 200)
@example(WINDOW + MOST_COLUMNS * 128)
@example(WINDOW)
@example(10 * 60 * SECOND)
def test_a_picture_never_has_more_columns_than_a_page_shows(samples):
    rows = spectrogram(np.zeros(min(samples, 100), np.float32), samples)
    widths = {len(row) for row in rows}
    assert len(rows) == BANDS
    assert len(widths) == 1
    assert 1 <= widths.pop() <= MOST_COLUMNS
    if samples > WINDOW + MOST_COLUMNS * 128:
        assert len(rows[0]) > MOST_COLUMNS / 2, "nor much less: long sounds use the page"


def test_figures_are_plain_floats_of_one_decimal():
    rows = spectrogram(tone(700), 3000 + SECOND)
    assert {type(value) for row in rows for value in row} == {float}
    assert all(round(value, 1) == value for row in rows for value in row)
