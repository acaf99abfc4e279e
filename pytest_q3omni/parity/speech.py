"""Spoken answers of two models: codes teacher-forced per codebook, and codes and waveforms as each model says them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_q3omni.engines._protocol import Engine
from pytest_q3omni.engines.answers import Answer
from pytest_q3omni.parity.divergence import divergence
from pytest_q3omni.parity.logits import MODALITIES, Target
from pytest_q3omni.parity.spectrogram import SAMPLING_RATE, audible, spectrogram
from pytest_q3omni.records import Divergence, Numerics, Progress, SpeechAgreement, SpeechSample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_SPOKEN = 9
"""Spoken answers that are compared, spread over the modalities: speech costs some ten forward passes a frame."""


@dataclass(frozen=True)
class Spoken:
    """A question, and what the original says to it: text, codes (codebooks, frames), waveform."""

    target: Target
    answer: Answer

    @property
    def modality(self) -> str:
        return next(name for name in MODALITIES if self.target.belongs_to(name))


def speak(original: Engine, targets: Sequence[Target], progress: Progress) -> list[Spoken]:
    """The original's spoken answers. Questions with both a picture and sound are left out: transformers 5.16 to 5.19
    cannot speak to them (`Qwen3OmniMoeTalkerConfig` has no `audio_config`).
    """
    able = [target for target in targets if not {"image", "audio"} <= target.conversation.modalities]
    chosen = _spread(able)
    found = []
    for number, target in enumerate(chosen):
        progress("speech", number, len(chosen))
        answer = say(original, target)
        if answer.codes is not None and answer.codes.shape[1]:
            found.append(Spoken(target, answer))
    progress("speech", len(chosen), len(chosen))
    return found


def say(engine: Engine, target: Target) -> Answer:
    """The spoken answer; the text alone where that is one token, its end perhaps, which transformers cannot speak."""
    written = engine.generate(target.conversation)
    return engine.generate(target.conversation, speech=True) if len(written.tokens) > 1 else written


def _spread(targets: Sequence[Target]) -> list[Target]:
    """At most `MOST_SPOKEN`, taken from the modalities in turn."""
    waiting = [[target for target in targets if target.belongs_to(modality)] for modality in MODALITIES]
    turns = max(map(len, waiting), default=0)
    order = [queue[turn] for turn in range(turns) for queue in waiting if turn < len(queue)]
    return order[:MOST_SPOKEN]


Codebooks = list[tuple["NDArray[np.float32]", ...]]
"""Per spoken answer, per codebook, log-probabilities (frames, vocabulary of the codebook)."""


def force(engine: Engine, spoken: Sequence[Spoken], what: str, progress: Progress) -> Codebooks:
    """What a model gives to the original's codes."""
    found: Codebooks = []
    for number, each in enumerate(spoken):
        progress(what, number, len(spoken))
        answer = each.answer
        found.append(engine.speech_logprobs(each.target.conversation, answer.tokens, answer.codes).values)
    progress(what, len(spoken), len(spoken))
    return found


def per_codebook(reference: Codebooks, other: Codebooks) -> tuple[Divergence, ...]:
    """The divergence of each codebook over all answers."""
    pairs = zip(zip(*reference, strict=True), zip(*other, strict=True), strict=True)
    return tuple(divergence(mine, theirs) for mine, theirs in pairs)


def flattened(codebooks: Codebooks) -> list[NDArray[np.float32]]:
    """Per answer one array over the frames of all codebooks, padded with -inf to the widest vocabulary."""
    import numpy as np

    widest = max(values.shape[1] for answer in codebooks for values in answer)

    def padded(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.pad(values, ((0, 0), (0, widest - values.shape[1])), constant_values=-math.inf)

    return [np.concatenate([padded(values) for values in answer]) for answer in codebooks]


def flat_codes(spoken: Sequence[Spoken]) -> list[NDArray[np.int64]]:
    """The codes in the order of `flattened`."""
    codes: list[Any] = [each.answer.codes for each in spoken]
    return [each.reshape(-1) for each in codes]


def speech_agreement(
    numerics: Numerics, quantized: Engine, spoken: Sequence[Spoken], codebooks: tuple[Divergence, ...]
) -> SpeechAgreement:
    """Codebooks as measured, and the first answer of each modality as the quantized model says it."""
    firsts = {each.modality: each for each in reversed(spoken)}
    samples, pictures, seconds = [], dict[str, tuple[tuple[float, ...], ...]](), 0.0
    for modality in MODALITIES:
        if modality not in firsts:
            continue
        mine = firsts[modality]
        theirs = say(quantized, mine.target)
        samples.append(_sample(modality, mine, theirs))
        if not pictures:
            pictures, seconds = _pictures(mine.answer, theirs)
    return SpeechAgreement(numerics, codebooks, tuple(samples), pictures, seconds)


def _sample(modality: str, mine: Spoken, theirs: Answer) -> SpeechSample:
    a, b = mine.answer, theirs
    return SpeechSample(
        conversation=mine.target.conversation.id,
        modality=modality,
        text=(a.text, b.text),
        frames=(_frames(a), _frames(b)),
        equal_codes=_equal_codes(a.codes, b.codes),
        snr=_snr(a.waveform, b.waveform),
    )


def _frames(answer: Answer) -> int:
    return 0 if answer.codes is None else answer.codes.shape[1]


def _equal_codes(mine: NDArray[np.int64] | None, theirs: NDArray[np.int64] | None) -> float:
    """Over all codebooks and the frames of the longer answer."""
    if mine is None or theirs is None:
        return 0.0
    common = min(mine.shape[1], theirs.shape[1])
    longest = max(mine.shape[1], theirs.shape[1])
    equal = int((mine[:, :common] == theirs[:, :common]).sum())
    return equal / int(mine.shape[0] * longest)


def _snr(mine: NDArray[np.float32] | None, theirs: NDArray[np.float32] | None) -> float | None:
    """10 log10 of the power of the original over that of the difference, in dB; the shorter one ends in silence."""
    import numpy as np

    waves = [np.zeros(0) if each is None else audible(each) for each in (mine, theirs)]
    length = max(map(len, waves))
    a, b = (np.pad(each, (0, length - len(each))) for each in waves)
    noise = float(((a - b) ** 2).sum())
    power = max(float((a**2).sum()), 1e-300)  # silence has a logarithm, too
    return None if noise == 0 else 10 * math.log10(power / noise)


def _pictures(mine: Answer, theirs: Answer) -> tuple[dict[str, tuple[tuple[float, ...], ...]], float]:
    """Two spectrograms over the same seconds."""
    if mine.waveform is None or theirs.waveform is None:
        return {}, 0.0
    samples = max(len(mine.waveform), len(theirs.waveform))
    named: Mapping[str, Any] = {"original": mine.waveform, "quantized": theirs.waveform}
    return {name: spectrogram(wave, samples) for name, wave in named.items()}, samples / SAMPLING_RATE
