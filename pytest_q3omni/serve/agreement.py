"""Do two engines, or one engine twice, give the same prompts the same probabilities? Per modality, against bounds.

Compared are |delta log p| of the tokens of a prompt and of a reply after it, and whether the most likely token is the
same (top-1). An engine is not deterministic from batch to batch: what it differs from itself by is measured, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_q3omni.engines.serving import Prompt, PromptLogprobs
from pytest_q3omni.errors import InvalidRequest
from pytest_q3omni.records import Finding, State, Verdict
from pytest_q3omni.serve.agreement_bounds import Bounds, input_bounds
from pytest_q3omni.serve.apart import Apart, Said, apart, check_same_tokens, deltas, said

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHECK, NAME = "serving-answers", "agrees with its twin"
LEAST_POSITIONS = 50
"""Of one modality: among fewer, a handful of near ties would decide about top-1."""
ERRORS = 3.0
"""Standard errors that are taken for the uncertainty of a mean."""

FIX = "`q3omni verify` judges the files; where they are sound, the engine computes otherwise than the format says"

_PLACEHOLDERS = ("image_token_id", "audio_token_id", "video_token_id")


@dataclass(frozen=True, slots=True)
class Worst:
    """The position that differs most: token number `position` of the prompt, counted from 0."""

    prompt: str
    position: int
    token: int
    reference: float
    found: float


@dataclass(frozen=True, slots=True)
class Row:
    """One modality ("text", "image", "audio"), or "all".

    noise: the reference against its repeats. why: what is missing, of a row that is not checked.
    """

    modality: str
    apart: Apart
    noise: Apart
    bounds: Bounds
    worst: Worst
    state: State
    why: str = ""


@dataclass(frozen=True, slots=True)
class ServingAgreement:
    """A comparison: a row per modality and one for all, what is wrong, and the verdict."""

    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    verdict: Verdict

    def row(self, modality: str) -> Row | None:
        """The row of a modality, None where it was not asked for."""
        return next((row for row in self.rows if row.modality == modality), None)


def placeholder_ids(config: Mapping[str, Any]) -> frozenset[int]:
    """Token ids that stand for a piece of picture, sound or video: nobody says them, so their probability is none.

    An engine gives one all the same: vLLM's prompt_logprobs hold what the language model makes of the id itself.
    """
    thinker = config.get("thinker_config")
    values = [thinker.get(key) if isinstance(thinker, Mapping) else None for key in _PLACEHOLDERS]
    return frozenset(value for value in values if isinstance(value, int))


def compare(
    prompts: Sequence[Prompt],
    reference: Sequence[PromptLogprobs],
    repeats: Sequence[Sequence[PromptLogprobs]],
    found: Sequence[PromptLogprobs],
    *,
    placeholders: frozenset[int],
    base: Sequence[PromptLogprobs] | None = None,
    bounds: Bounds | None = None,
    fix: str = FIX,
) -> ServingAgreement:
    """Compare what `found` and `reference` give to the same prompts; `repeats` are the reference again: its noise.

    base: what the reference says without the one thing that both do to it (rounding inputs); it must then be the same
    thing. bounds: without them the usual ones, and with a base what `input_bounds` makes of each row's. fix: what to do
    about a row that fails.

    Raises:
        InvalidRequest: no prompts, no repeats, or lists of different lengths.
        EngineError: they speak of different tokens: another template, tokenizer or picture size.
    """
    bases = [None] * len(prompts) if base is None else base
    counts = [len(each) for each in (prompts, reference, *repeats, found, bases)]
    if not prompts or not repeats or len(set(counts)) > 1:
        raise InvalidRequest(
            f"{', '.join(map(str, counts))} answers", expected="one per prompt from each, and from the reference twice",
            fix="ask all of them all prompts",
        )  # fmt: skip
    said_to = zip(prompts, reference, zip(*repeats, strict=True), found, bases, strict=True)
    judged = [
        _judged(_name(prompt, number), prompt, one, again, other, start, placeholders)
        for number, (prompt, one, again, other, start) in enumerate(said_to)
    ]
    modalities = list(dict.fromkeys(each.modality for each in judged))
    groups = {name: [each for each in judged if each.modality == name] for name in modalities}
    rows = tuple(_row(name, members, bounds) for name, members in {**groups, "all": judged}.items())
    findings = tuple(finding for row in rows for finding in _findings(row, fix))
    return ServingAgreement(rows, findings, _verdict(rows))


@dataclass(frozen=True)
class _Judged:
    """One prompt: the positions that count, (n,), and what was said there; `repeats` is n for each of `times`."""

    name: str
    modality: str
    positions: NDArray[np.int64]
    tokens: Sequence[int]
    reference: Said
    repeats: Said
    found: Said
    base: Said | None
    times: int

    def several(self, one: Said) -> Said:
        """What is compared with the repeats."""
        import numpy as np

        return Said(np.tile(one.logprobs, self.times), np.tile(one.most_likely, self.times))


def _name(prompt: Prompt, number: int) -> str:
    return f"prompt {number}" if prompt.question is None else prompt.question.id


def _judged(
    name: str,
    prompt: Prompt,
    reference: PromptLogprobs,
    repeats: Sequence[PromptLogprobs],
    found: PromptLogprobs,
    base: PromptLogprobs | None,
    placeholders: frozenset[int],
) -> _Judged:
    for other in (found, *repeats, base or reference):
        check_same_tokens(name, reference.tokens, other.tokens)
    positions = _counted(reference.tokens, placeholders)
    modality = "text" if prompt.question is None else prompt.question.modality
    return _Judged(
        name, modality, positions, reference.tokens, said([reference], positions), said(repeats, positions),
        said([found], positions), None if base is None else said([base], positions), len(repeats),
    )  # fmt: skip


def _counted(tokens: Sequence[int], placeholders: frozenset[int]) -> NDArray[np.int64]:
    """Where a token is said that the picture or sound, if any, can have a part in: after the first placeholder."""
    import numpy as np

    stands_for = np.array([token in placeholders for token in tokens], dtype=bool)
    chosen = ~stands_for
    if stands_for.any():
        chosen[: int(stands_for.argmax())] = False
    return np.flatnonzero(chosen)


def _row(modality: str, members: Sequence[_Judged], bounds: Bounds | None) -> Row:
    reference, bases = [each.reference for each in members], [each.base for each in members if each.base is not None]
    found = apart(reference, [each.found for each in members], bases or None)
    noise = apart(
        [each.several(each.reference) for each in members], [each.repeats for each in members],
        [each.several(each.base) for each in members if each.base is not None] or None,
    )  # fmt: skip
    if bounds is None:
        bounds = input_bounds(apart(reference, bases).mean) if bases else Bounds()
    state, why = _state(found, noise, bounds)
    return Row(modality, found, noise, bounds, _worst(members), state, why)


def _worst(members: Sequence[_Judged]) -> Worst:
    widest = max(members, key=lambda each: float(deltas(each.reference, each.found).max(initial=-1.0)))
    if not widest.positions.size:
        return Worst(widest.name, 0, 0, math.nan, math.nan)
    place = int(deltas(widest.reference, widest.found).argmax())
    position, reference, found = int(widest.positions[place]), widest.reference, widest.found
    token = widest.tokens[position]
    return Worst(widest.name, position + 1, token, float(reference.logprobs[place]), float(found.logprobs[place]))


def _state(apart: Apart, noise: Apart, bounds: Bounds) -> tuple[State, str]:
    """A mean beyond its bound fails however few positions there are, if the reference itself keeps that bound."""
    if apart.positions and noise.mean > bounds.mean:
        itself = f"the reference differs from itself by {noise.mean:.3g} on average"
        return "not checked", f"{itself}: more than the bound of {bounds.mean:.3g}"
    if apart.mean > bounds.mean:
        return "fail", ""
    if noise.in_common is not None and noise.in_common < bounds.in_common:
        why = f"the reference has {noise.in_common:.2f} in common with itself"
        return "not checked", f"{why}: less than the bound of {bounds.in_common:g}"
    if apart.in_common is not None and apart.in_common < bounds.in_common:
        return "fail", ""
    if apart.positions < LEAST_POSITIONS:
        return "not checked", f"{apart.positions} positions, needs {LEAST_POSITIONS} or more"
    if apart.top1 < bounds.top1:
        return "fail", ""
    if apart.mean >= bounds.fault:
        return "not checked", f"{apart.mean:.3g} cannot be told from a fault of {bounds.fault:.3g}"
    if apart.mean + ERRORS * apart.error >= bounds.fault:
        return "not checked", f"{apart.prompts} prompts, needs {_needed(apart, bounds)} or more"
    return "pass", ""


def _needed(apart: Apart, bounds: Bounds) -> int:
    """Prompts at which the uncertainty would fit below a fault; it shrinks with the root of their number."""
    if math.isinf(apart.error):
        return 2
    return math.ceil(apart.prompts * (ERRORS * apart.error / (bounds.fault - apart.mean)) ** 2)


def _findings(row: Row, fix: str) -> Iterator[Finding]:
    where, apart, bounds = f"{row.modality} prompts", row.apart, row.bounds
    if row.state == "not checked":
        more = "ask more prompts" if row.noise.mean <= bounds.mean or not apart.positions else "run it without others"
        yield Finding(CHECK, "warning", where, row.why, "enough to tell", f"{more} of this modality")
    if row.state != "fail":
        return
    worst = row.worst
    yield Finding(
        CHECK, "error", where,
        f"{_figures(apart)} over {apart.positions:,} positions of {apart.prompts} prompts; worst in {worst.prompt}, "
        f"position {worst.position}, token {worst.token}: log p {worst.found:.3f}, the reference says "
        f"{worst.reference:.3f}",
        f"{_bounds(row)}; the reference against itself: {_figures(row.noise)}", fix,
    )  # fmt: skip


def _figures(apart: Apart) -> str:
    common = "" if apart.in_common is None else f", {apart.in_common:.2f} of the rounding in common"
    return f"mean |delta log p| {apart.mean:.3g} ± {apart.error:.2g} nats, top-1 agreement {apart.top1:.1%}{common}"


def _bounds(row: Row) -> str:
    if row.apart.in_common is None:
        return f"at most {row.bounds.mean:.3g} and at least {row.bounds.top1:.0%}"
    return f"at most {row.bounds.mean:.3g} and {row.bounds.in_common:g} in common"


def _verdict(rows: Sequence[Row]) -> Verdict:
    failed = [row for row in rows if row.state == "fail"]
    if failed:
        first = failed[0]
        return Verdict(NAME, "fail", f"{first.modality}: {_figures(first.apart)}; {_bounds(first)}")
    short = [row for row in rows if row.state != "pass"]
    if short:
        return Verdict(NAME, "not checked", f"{short[0].modality}: {short[0].why}")
    whole, bound = rows[-1].apart, rows[-1].bounds.mean
    why = f"mean |delta log p| {whole.mean:.2g} of at most {bound:.3g}, top-1 {whole.top1:.1%}"
    return Verdict(NAME, "pass", f"{why}, over {whole.positions:,} positions")
