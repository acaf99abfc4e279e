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
from pytest_q3omni.errors import EngineError, InvalidRequest
from pytest_q3omni.records import Finding, State, Verdict
from pytest_q3omni.serve.agreement_bounds import Bounds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CHECK, NAME = "serving-answers", "agrees with its twin"
LEAST_POSITIONS = 50
"""Of one modality: among fewer, a handful of near ties would decide about top-1."""
ERRORS = 3.0
"""Standard errors that are taken for the uncertainty of a mean."""

FIX = "`q3omni verify` judges the files; where they are sound, the engine computes otherwise than the format says"

_PLACEHOLDERS = ("image_token_id", "audio_token_id", "video_token_id")


@dataclass(frozen=True, slots=True)
class Apart:
    """How far apart two lists of log-probabilities are, over `positions` tokens of `prompts` prompts.

    mean, median, p99 and largest are |delta log p| in nats, infinite where one side is no number; error is the standard
    error of the mean, prompts taken for independent (infinite for one prompt). top1: share of positions with the same
    most likely token.
    """

    prompts: int
    positions: int
    mean: float
    error: float
    median: float
    p99: float
    largest: float
    top1: float


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
    bounds: Mapping[str, Bounds] | None = None,
    fix: str = FIX,
) -> ServingAgreement:
    """Compare what `found` and `reference` give to the same prompts; `repeats` are the reference again: its noise.

    bounds: of rows that have bounds of their own. fix: what to do about a row that fails.

    Raises:
        InvalidRequest: no prompts, no repeats, or lists of different lengths.
        EngineError: they speak of different tokens: another template, tokenizer or picture size.
    """
    counts = [len(each) for each in (prompts, reference, *repeats, found)]
    if not prompts or not repeats or len(set(counts)) > 1:
        raise InvalidRequest(
            f"{', '.join(map(str, counts))} answers", expected="one per prompt from each, and from the reference twice",
            fix="ask all of them all prompts",
        )  # fmt: skip
    judged = []
    for number, (prompt, one, again, other) in enumerate(
        zip(prompts, reference, zip(*repeats, strict=True), found, strict=True)
    ):
        judged.append(_judged(_name(prompt, number), prompt, one, again, other, placeholders))
    modalities = list(dict.fromkeys(each.modality for each in judged))
    groups = {name: [each for each in judged if each.modality == name] for name in modalities}
    own = bounds or {}
    rows = tuple(_row(name, members, own.get(name, Bounds())) for name, members in {**groups, "all": judged}.items())
    findings = tuple(finding for row in rows for finding in _findings(row, fix))
    return ServingAgreement(rows, findings, _verdict(rows))


@dataclass(frozen=True)
class _Judged:
    """One prompt: its positions that count, and at each the deltas and agreements, (n,); of noise (repeats x n,)."""

    name: str
    modality: str
    positions: NDArray[np.int64]
    found: PromptLogprobs
    reference: PromptLogprobs
    deltas: Floats
    same: NDArray[np.bool_]
    noise: Floats
    noise_same: NDArray[np.bool_]


def _name(prompt: Prompt, number: int) -> str:
    return f"prompt {number}" if prompt.question is None else prompt.question.id


def _judged(
    name: str,
    prompt: Prompt,
    reference: PromptLogprobs,
    repeats: Sequence[PromptLogprobs],
    found: PromptLogprobs,
    placeholders: frozenset[int],
) -> _Judged:
    import numpy as np

    if any(each.tokens != reference.tokens for each in (*repeats, found)):
        first = next(
            (n for n, pair in enumerate(zip(reference.tokens, found.tokens, strict=False)) if len(set(pair)) > 1),
            min(len(reference.tokens), len(found.tokens)),
        )
        raise EngineError(
            f"{len(found.tokens)} tokens that differ from the reference's {len(reference.tokens)} from position "
            f"{first + 1} on", where=name, expected="the same token ids",
            fix="tokenizer, processor and chat template of both must be the same files",
        )  # fmt: skip
    positions = _counted(reference.tokens, placeholders)
    deltas, same = _deltas(reference, found, positions)
    noise, noise_same = zip(*(_deltas(reference, each, positions) for each in repeats), strict=True)
    modality = "text" if prompt.question is None else prompt.question.modality
    return _Judged(
        name, modality, positions, found, reference, deltas, same, np.concatenate(noise), np.concatenate(noise_same)
    )


def _counted(tokens: Sequence[int], placeholders: frozenset[int]) -> NDArray[np.int64]:
    """Where a token is said that the picture or sound, if any, can have a part in: after the first placeholder."""
    import numpy as np

    stands_for = np.array([token in placeholders for token in tokens], dtype=bool)
    chosen = ~stands_for
    if stands_for.any():
        chosen[: int(stands_for.argmax())] = False
    return np.flatnonzero(chosen)


def _deltas(
    one: PromptLogprobs, other: PromptLogprobs, positions: NDArray[np.int64]
) -> tuple[Floats, NDArray[np.bool_]]:
    import numpy as np

    with np.errstate(invalid="ignore"):
        deltas = np.abs(np.subtract(one.logprobs, other.logprobs, dtype=np.float64))[positions]
    deltas[~np.isfinite(deltas)] = math.inf  # NaN would be below every bound
    same = np.equal(one.most_likely, other.most_likely)[positions]
    return deltas, same


def _row(modality: str, members: Sequence[_Judged], bounds: Bounds) -> Row:
    apart = _apart([each.deltas for each in members], [each.same for each in members])
    noise = _apart([each.noise for each in members], [each.noise_same for each in members])
    state, why = _state(apart, noise, bounds)
    return Row(modality, apart, noise, bounds, _worst(members), state, why)


def _apart(deltas: Sequence[Floats], same: Sequence[NDArray[np.bool_]]) -> Apart:
    import numpy as np

    every, agreed = np.concatenate(deltas), np.concatenate(same)
    if not every.size:
        return Apart(len(deltas), 0, math.nan, math.inf, math.nan, math.nan, math.nan, math.nan)
    mean = float(every.mean())
    error = math.inf
    if len(deltas) > 1 and math.isfinite(mean):  # a ratio of two sums over prompts, which differ in length
        residuals = np.array([float(part.sum()) - mean * part.size for part in deltas])
        error = float(np.sqrt((residuals**2).sum() * len(deltas) / (len(deltas) - 1))) / every.size
    with np.errstate(invalid="ignore"):
        median, p99 = (float(np.percentile(every, share, method="lower")) for share in (50, 99))
    return Apart(len(deltas), every.size, mean, error, median, p99, float(every.max()), float(agreed.mean()))


def _worst(members: Sequence[_Judged]) -> Worst:
    widest = max(members, key=lambda each: float(each.deltas.max()) if each.deltas.size else -1.0)
    if not widest.deltas.size:
        return Worst(widest.name, 0, 0, math.nan, math.nan)
    place = int(widest.positions[int(widest.deltas.argmax())])
    reference, found = widest.reference, widest.found
    return Worst(widest.name, place + 1, found.tokens[place], reference.logprobs[place], found.logprobs[place])


def _state(apart: Apart, noise: Apart, bounds: Bounds) -> tuple[State, str]:
    """A mean beyond its bound fails however few positions there are, if the reference itself keeps that bound."""
    if apart.positions and noise.mean > bounds.mean:
        itself = f"the reference differs from itself by {noise.mean:.3g} on average"
        return "not checked", f"{itself}: more than the bound of {bounds.mean:.3g}"
    if apart.mean > bounds.mean:
        return "fail", ""
    if apart.positions < LEAST_POSITIONS:
        return "not checked", f"{apart.positions} positions, needs {LEAST_POSITIONS} or more"
    if apart.top1 < bounds.top1:
        return "fail", ""
    if apart.mean >= bounds.fault:
        return "not checked", f"{apart.mean:.3g} cannot be told from a fault of {bounds.fault:.3g}"
    if apart.mean + ERRORS * apart.error > bounds.fault:
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
        f"mean |delta log p| {apart.mean:.3g} ± {apart.error:.2g} nats, top-1 agreement {apart.top1:.1%} over "
        f"{apart.positions:,} positions of {apart.prompts} prompts; worst in {worst.prompt}, position "
        f"{worst.position}, token {worst.token}: log p {worst.found:.3f}, the reference says {worst.reference:.3f}",
        f"at most {bounds.mean:.3g} and at least {bounds.top1:.0%}; the reference differs from itself by "
        f"{row.noise.mean:.2g} and {row.noise.top1:.1%}", fix,
    )  # fmt: skip


def _verdict(rows: Sequence[Row]) -> Verdict:
    failed = [row for row in rows if row.state == "fail"]
    if failed:
        first = failed[0]
        why = f"{first.modality}: mean |delta log p| {first.apart.mean:.3g}, top-1 {first.apart.top1:.1%}"
        return Verdict(NAME, "fail", f"{why}; at most {first.bounds.mean:.3g} and at least {first.bounds.top1:.0%}")
    short = [row for row in rows if row.state != "pass"]
    if short:
        return Verdict(NAME, "not checked", f"{short[0].modality}: {short[0].why}")
    whole, bound = rows[-1].apart, rows[-1].bounds.mean
    why = f"mean |delta log p| {whole.mean:.2g} of at most {bound:.3g}, top-1 {whole.top1:.1%}"
    return Verdict(NAME, "pass", f"{why}, over {whole.positions:,} positions")
