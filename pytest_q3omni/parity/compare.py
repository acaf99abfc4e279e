"""The comparison: one original, computed twice; plain NVFP4 of it; the checkpoint in each of its numerics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pytest_q3omni.engines._protocol import Engine
from pytest_q3omni.omni.conversations import Conversation
from pytest_q3omni.parity.inputs import input_ranges, misfits
from pytest_q3omni.parity.logits import Answers, Target, ask, find_targets, text_agreements
from pytest_q3omni.parity.speech import (
    Codebooks,
    Spoken,
    force,
    per_codebook,
    speak,
    speech_agreement,
    speech_agreements,
)
from pytest_q3omni.parity.verdict import MUTE, agrees, answer_findings, asks_all, sound_findings, unasked
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


@dataclass(frozen=True)
class Side:
    """What one engine gives to the targets, in text and in speech."""

    text: list[NDArray[np.float32]]
    speech: Codebooks


@dataclass(frozen=True)
class Reference:
    """What any checkpoint that packs the same layers is measured against.

    original, repeat: BF16, and BF16 computed another way. plain: plain NVFP4 in each numerics; where nothing is packed,
    only BF16's own noise may lie between the two, and the repeat takes its place. seen: input site ->
    largest |input| over the targets.
    """

    path: Path
    targets: Sequence[Target]
    spoken: Sequence[Spoken]
    speaks: bool
    original: Side
    repeat: Side
    plain: Mapping[Numerics, Side]
    seen: Mapping[str, float]


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
    reference = measure_reference(contestants, conversations, progress)
    found = compare_with(reference, contestants, progress)
    return replace(found, device=device, versions=dict(versions or {}))


def measure_reference(contestants: Contestants, conversations: Sequence[Conversation], progress: Progress) -> Reference:
    """The original, twice, and plain NVFP4 of it."""
    original = contestants.original
    speaks = original.speaks and all(engine.speaks for engine in contestants.quantized.values())
    with closing(original), original.loaded(speech=speaks):
        targets = find_targets(original, conversations, progress)
        spoken = speak(original, targets, progress) if speaks else []
        base = _side(original, targets, spoken, "BF16", progress)
    with closing(contestants.repeat):
        repeat = _side(contestants.repeat, targets, spoken, "BF16 again", progress)
    plain, seen = _plain(contestants, targets, spoken, progress)
    return Reference(original.path, targets, spoken, speaks, base, repeat, plain, seen)


def compare_with(reference: Reference, contestants: Contestants, progress: Progress = no_progress) -> Parity:
    """The checkpoint, in each numerics, beside the reference."""
    rows: list[Agreement] = []
    voices: list[SpeechAgreement] = []
    targets, spoken = reference.targets, reference.spoken
    for numerics, engine in contestants.quantized.items():
        with closing(engine):
            side = _side(engine, targets, spoken, numerics.upper(), progress)
            plain = reference.repeat if numerics == "bf16" else reference.plain[numerics]
            sides = (reference.original, reference.repeat, plain, side)
            rows += text_agreements(numerics, targets, Answers(*(each.text for each in sides)))
            if spoken:
                rows += speech_agreements(numerics, spoken, *(each.speech for each in sides))
                codebooks = per_codebook(reference.original.speech, side.speech)
                voices.append(speech_agreement(numerics, engine, spoken, codebooks))
    ranges = input_ranges(contestants.input_scales, reference.seen) if "w4a4" in contestants.quantized else ()
    findings = (
        *answer_findings(rows), *sound_findings(voices), *misfits(ranges, complete=asks_all(rows)),
        *unasked(rows, reference.speaks),
        *([] if reference.speaks or not contestants.original.speaks else [MUTE]),
    )  # fmt: skip
    return Parity(
        original=str(reference.path),
        quantized=str(next(iter(contestants.quantized.values())).path),
        device="",
        versions={},
        verdict=agrees(rows, findings),
        agreements=tuple(rows),
        inputs=ranges,
        speech=tuple(voices),
        findings=findings,
    )


def _side(engine: Engine, targets: Sequence[Target], spoken: Sequence[Spoken], what: str, progress: Progress) -> Side:
    with engine.loaded(speech=bool(spoken)):
        text = ask(engine, targets, what, progress)
        return Side(text, force(engine, spoken, f"{what} speech", progress) if spoken else [])


def _plain(
    contestants: Contestants, targets: Sequence[Target], spoken: Sequence[Spoken], progress: Progress
) -> tuple[dict[Numerics, Side], dict[str, float]]:
    """Plain NVFP4 in each numerics, and the largest inputs that its calibration saw; empty where nothing is packed."""
    wanted = list(contestants.quantized)
    if wanted == ["bf16"]:
        return {}, {}
    found: dict[Numerics, Side] = {}
    with closing(contestants.plain(targets, spoken)) as engine:
        for numerics in wanted:
            engine.numerics = numerics
            found[numerics] = _side(engine, targets, spoken, f"plain {numerics.upper()}", progress)
        return found, engine.input_amax() if "w4a4" in wanted else {}
