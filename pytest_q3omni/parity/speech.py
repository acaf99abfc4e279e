"""Spoken answers of two models: codes teacher-forced per codebook, and codes and waveforms as each model says them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from pytest_q3omni.engines._protocol import Engine
from pytest_q3omni.engines.answers import Answer
from pytest_q3omni.parity.divergence import divergence
from pytest_q3omni.parity.logits import MAX_NEW_TOKENS, MODALITIES, Answers, Target, agreement
from pytest_q3omni.parity.spectrogram import SAMPLING_RATE, audible, spectrogram
from pytest_q3omni.records import Agreement, Divergence, Numerics, Progress, SpeechAgreement, SpeechSample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_SPOKEN = 12
"""Spoken answers that are compared: speech costs some ten forward passes a frame."""


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
    written = engine.generate(target.conversation, max_new_tokens=MAX_NEW_TOKENS)
    if len(written.tokens) < 2:
        return written
    return engine.generate(target.conversation, max_new_tokens=MAX_NEW_TOKENS, speech=True)


def _spread(targets: Sequence[Target]) -> list[Target]:
    """At most `MOST_SPOKEN`: pictures and sound in turn, then text alone. The talker gets text as embeddings, and hears
    the thinker's layers at pictures and sound alone.
    """
    image, audio = ([each for each in targets if each.belongs_to(modality)] for modality in ("image", "audio"))
    turns = [each for pair in zip_longest(image, audio) for each in pair if each is not None]
    return [*turns, *(each for each in targets if each.belongs_to("text"))][:MOST_SPOKEN]


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


def speech_agreements(
    numerics: Numerics, spoken: Sequence[Spoken], original: Codebooks, repeat: Codebooks, plain: Codebooks,
    quantized: Codebooks,
) -> list[Agreement]:  # fmt: skip
    """A row for the talker's codebook, and one for those of the code predictor: a fault in the one does not drown in
    the many others. Answers in which plain NVFP4 changes nothing are left out: nothing that is packed reaches them.
    """
    rows = []
    for stage, books in (("talker", slice(0, 1)), ("code_predictor", slice(1, None))):
        sides = [[_joined(answer[books]) for answer in side] for side in (original, repeat, plain, quantized)]
        codes = [_codes(each)[books].reshape(-1) for each in spoken]
        reached = [number for number in range(len(spoken)) if (sides[0][number] != sides[2][number]).any()]
        if reached:
            rows.append(agreement(stage, numerics, Answers(*sides).chosen(reached), [codes[each] for each in reached]))
    return rows


def _joined(codebooks: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The frames of all codebooks after each other, padded with -inf to the widest vocabulary."""
    import numpy as np

    widest = max(values.shape[1] for values in codebooks)
    wide = [np.pad(each, ((0, 0), (0, widest - each.shape[1])), constant_values=-math.inf) for each in codebooks]
    return np.concatenate(wide)


def _codes(spoken: Spoken) -> NDArray[np.int64]:
    """The codes (codebooks, frames) of a spoken answer."""
    import numpy as np

    return np.asarray(spoken.answer.codes, np.int64)


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
        samples.append(_sample(modality, mine, theirs, quantized.sound(mine.answer.codes)))
        if not pictures:
            pictures, seconds = _pictures(mine.answer, theirs)
    return SpeechAgreement(numerics, codebooks, tuple(samples), pictures, seconds)


def _sample(modality: str, mine: Spoken, theirs: Answer, revoiced: NDArray[np.float32]) -> SpeechSample:
    a, b = mine.answer, theirs
    return SpeechSample(
        conversation=mine.target.conversation.id,
        modality=modality,
        text=(a.text, b.text),
        frames=(_frames(a), _frames(b)),
        equal_codes=_equal_codes(a.codes, b.codes),
        snr=_snr(a.waveform, b.waveform),
        vocoder_snr=_snr(a.waveform, revoiced),
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
