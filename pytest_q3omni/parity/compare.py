"""The comparison: one original, computed twice; plain NVFP4 of it; the checkpoint in each of its numerics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pytest_q3omni.engines._protocol import Engine
from pytest_q3omni.omni.conversations import Conversation
from pytest_q3omni.parity.inputs import input_ranges, misfits
from pytest_q3omni.parity.logits import Answers, Target, agreement, ask, find_targets, text_agreements
from pytest_q3omni.parity.speech import (
    Codebooks,
    Spoken,
    flat_codes,
    flattened,
    force,
    per_codebook,
    speak,
    speech_agreement,
)
from pytest_q3omni.parity.verdict import agrees, answer_findings, unasked
from pytest_q3omni.records import (
    Agreement,
    Numerics,
    Parity,
    Progress,
    SpeechAgreement,
    no_progress,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Plain(Protocol):
    """Makes plain NVFP4 of the original, once it is known what is asked."""

    def __call__(self, targets: Sequence[Target], spoken: Sequence[Spoken]) -> PlainEngine: ...


class PlainEngine(Engine, Protocol):
    """Plain NVFP4: the same weights in either numerics, calibrated on what is asked."""

    numerics: Numerics

    def input_amax(self) -> dict[str, float]: ...


@dataclass(frozen=True)
class Contestants:
    """The engines of one comparison. input_scales: packed module -> scale, as the file says."""

    original: Engine
    repeat: Engine
    plain: Plain
    quantized: Mapping[Numerics, Engine]
    input_scales: Mapping[str, float]


@dataclass
class _Side:
    """What one engine gives to the targets, in text and in speech."""

    text: list[NDArray[np.float32]]
    speech: Codebooks


def compare(
    contestants: Contestants,
    conversations: Sequence[Conversation],
    *,
    device: str = "",
    versions: Mapping[str, str] | None = None,
    progress: Progress = no_progress,
) -> Parity:
    """Ask every engine the same, one after the other: each is closed before the next one opens.

    Raises:
        EngineError, InvalidRequest, Unreadable: an engine cannot run a conversation.
    """
    original = contestants.original
    speaks = original.speaks and all(engine.speaks for engine in contestants.quantized.values())
    with original.loaded(speech=speaks):
        targets = find_targets(original, conversations, progress)
        spoken = speak(original, targets, progress) if speaks else []
        base = _side(original, targets, spoken, "BF16", progress)
    original.close()
    repeat = _side(contestants.repeat, targets, spoken, "BF16 again", progress)
    contestants.repeat.close()
    references, seen = _references(contestants, targets, spoken, repeat, progress)
    rows: list[Agreement] = []
    voices: list[SpeechAgreement] = []
    for numerics, engine in contestants.quantized.items():
        side = _side(engine, targets, spoken, numerics.upper(), progress)
        plain = references[numerics]
        rows += text_agreements(numerics, targets, Answers(base.text, repeat.text, plain.text, side.text))
        if spoken:
            flat = (flattened(each.speech) for each in (base, repeat, plain, side))
            rows.append(agreement("speech", numerics, Answers(*flat), flat_codes(spoken)))
            voices.append(speech_agreement(numerics, engine, spoken, per_codebook(base.speech, side.speech)))
        engine.close()
    ranges = input_ranges(contestants.input_scales, seen) if "w4a4" in contestants.quantized else ()
    findings = (*answer_findings(rows), *misfits(ranges), *unasked(rows, speaks))
    return Parity(
        original=str(original.path),
        quantized=str(next(iter(contestants.quantized.values())).path),
        device=device,
        versions=dict(versions or {}),
        verdict=agrees(rows, findings),
        agreements=tuple(rows),
        inputs=ranges,
        speech=tuple(voices),
        findings=findings,
    )


def _side(engine: Engine, targets: Sequence[Target], spoken: Sequence[Spoken], what: str, progress: Progress) -> _Side:
    with engine.loaded(speech=bool(spoken)):
        text = ask(engine, targets, what, progress)
        return _Side(text, force(engine, spoken, f"{what} speech", progress) if spoken else [])


def _references(
    contestants: Contestants, targets: Sequence[Target], spoken: Sequence[Spoken], repeat: _Side, progress: Progress
) -> tuple[dict[Numerics, _Side], dict[str, float]]:
    """What each numerics is measured against, and the largest inputs that plain NVFP4's calibration saw."""
    wanted = list(contestants.quantized)
    if wanted == ["bf16"]:  # nothing is packed: only BF16's own noise may lie between the two
        return {"bf16": repeat}, {}
    engine = contestants.plain(targets, spoken)
    found: dict[Numerics, _Side] = {}
    try:
        for numerics in wanted:
            engine.numerics = numerics
            found[numerics] = _side(engine, targets, spoken, f"plain {numerics.upper()}", progress)
        return found, engine.input_amax() if "w4a4" in wanted else {}
    finally:
        engine.close()
