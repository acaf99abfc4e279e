"""What a test can say about a checkpoint. Plain functions on paths, model handles or text, usable outside pytest, too.

Each returns the Measurement it judged, and raises one AssertionError that lists every finding: module, number, bound,
remedy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_q3omni.errors import InvalidRequest, NotChatML, UnknownName
from pytest_q3omni.records import CalibrationRecord, Facts, Judgement, Measurement, Parity

if TYPE_CHECKING:
    from pytest_q3omni.omni.conversations import Conversation
    from pytest_q3omni.verify.subject import Subject

__all__ = [
    "assert_calibrated",
    "assert_chatml",
    "assert_compression_ratio",
    "assert_expert_coverage",
    "assert_output_parity",
    "assert_quantized_fraction",
    "assert_verified",
]

_judged: ContextVar[list[Judgement | Parity] | None] = ContextVar("q3omni_judged", default=None)
"""Where --q3omni-report collects what a session judged; None outside it."""

_MOST = 16 / 4.5
"""NVFP4 has 4 bits a weight and 8 for 16 weights: no checkpoint is ever smaller than its BF16 by more than this."""

_BEYOND = (
    f"no NVFP4 checkpoint reaches this: 4 bits a weight and 8 for each 16 make {_MOST:.2f}x the most, with everything "
    "packed. Fix: `q3omni plan` says what each recipe reaches"
)
_REACH = "Fix: calibrate with conversations that reach this layer"
_TENSORS = "Fix: `q3omni verify QUANTIZED --source ORIGINAL` names tensors that are not what packing gives"
_RECIPES = "`q3omni plan` says what recipes reach"
_OWN = "leave it out, and the limits are measured; `q3omni parity` shows what plain NVFP4 costs"
_ALL = "all modalities"
_OPEN = "not checked"
_NAMED = 5  # modules of one kind that a message names; the others are counted


class _HasPath(Protocol):
    @property
    def path(self) -> Path: ...


_Checkpoint = str | PathLike[str] | _HasPath
_Record = _Checkpoint | CalibrationRecord


def assert_compression_ratio(
    checkpoint: _Checkpoint, original: _Checkpoint | None = None, *, at_least: float
) -> Measurement:
    """Assert that the checkpoint is at least so many times smaller than its original. Reads headers only.

    The ratio is tensor bytes of the original / tensor bytes of the checkpoint over the stages that both have; without
    an original, 2 bytes for every parameter. `details["planned"]` is what the checkpoint's own config plans.

    Raises:
        AssertionError: it is not; names the modules that are declared packed and are not.
        InvalidRequest: a bound that is no number above 0.
        Unreadable, Inconsistent: a directory that is no checkpoint.
    """
    __tracebackhide__ = True
    bound = _bound("at_least", at_least, most=math.inf, why="how many times smaller, 2.4 for instance")
    subject = _subject(checkpoint, original)
    found = _facts(subject)
    planned, sizes = found.planned_compression_ratio, found.stages.items()
    stages = {name: _share(size.source_bytes, size.tensor_bytes) for name, size in sizes}
    details = {"planned": planned, "tensor_bytes": found.tensor_bytes, "parameters": found.parameters, "stages": stages}
    measured = Measurement("compression ratio", found.compression_ratio, bound, "x", details)
    if not measured.value >= bound:
        shown = f"{measured.value:.2f}x, at_least is {bound:.2f}x (its config plans {planned:.2f}x)"
        findings = [_BEYOND] if bound > _MOST else _smaller(subject, planned >= bound)
        _fail("assert_compression_ratio", _path(checkpoint), shown, findings)
    return measured


def assert_quantized_fraction(checkpoint: _Checkpoint, *, at_least: float) -> Measurement:
    """Assert that at least this share (0 to 1) of all parameters is stored as packed NVFP4. Reads headers only.

    Raises:
        AssertionError: it is less; names the modules that are declared packed and are not.
        InvalidRequest: a bound that is no share.
        Unreadable, Inconsistent: a directory that is no checkpoint.
    """
    __tracebackhide__ = True
    bound = _bound("at_least", at_least, most=1.0, why="a share: write 0.82 for 82 %")
    subject = _subject(checkpoint)
    found = _facts(subject)
    planned = found.planned_quantized_fraction
    stages = {name: _share(size.packed_parameters, size.parameters) for name, size in found.stages.items()}
    details = {"planned": planned, "parameters": found.parameters, "stages": stages}
    measured = Measurement("quantized fraction", found.quantized_fraction, bound, "", details)
    if not measured.value >= bound:
        shown = f"{measured.value:.2%} of {found.parameters:,} parameters, at_least is {bound:.2%} "
        shown += f"(its config plans {planned:.2%})"
        _fail("assert_quantized_fraction", _path(checkpoint), shown, _smaller(subject, planned >= bound))
    return measured


def assert_calibrated(record_or_checkpoint: _Record, *, at_least_samples: int | None = None) -> Measurement:
    """Assert that every conversation of the calibration passed, and that every recorded input has a usable amax.

    Of a checkpoint, also that each of its input scales comes from the record. The value is the number of samples.

    Raises:
        AssertionError: names failed samples with their cause, and inputs without data.
        InvalidRequest: `at_least_samples` is no number above 0.
        Unreadable: there is no calibration record.
    """
    __tracebackhide__ = True
    least = 1 if at_least_samples is None else _count("at_least_samples", at_least_samples)
    record = _record(record_or_checkpoint)
    details = {"total": record.samples_total, "samples": dict(record.samples), "inputs": len(record.input_amax)}
    measured = Measurement("calibration samples", record.samples_passed, least, "samples", details)
    findings = [f"{failure.sample}: {failure.cause}. Fix: repair or remove it" for failure in record.failures]
    if record.samples_passed < least:
        findings.append(f"{record.samples_passed} samples passed; expected at least {least}. Fix: add conversations")
    bad = {site: amax for site, amax in record.input_amax.items() if not (math.isfinite(amax) and amax > 0)}
    findings += [f"{site}: input amax {amax}; expected a finite number above 0. {_REACH}" for site, amax in bad.items()]
    findings += _scales_without_data(record_or_checkpoint, record)
    if findings:
        shown = f"{record.samples_passed} of {record.samples_total} samples passed, at_least_samples is {least}"
        _fail("assert_calibrated", _place(record_or_checkpoint), shown, findings)
    return measured


def assert_expert_coverage(
    record_or_checkpoint: _Record, *, at_least_tokens: int = 1, modalities: Iterable[str] | None = None
) -> Measurement:
    """Assert that every expert of every layer saw enough tokens: in all, or of each of `modalities`.

    The value is the smallest count.

    Raises:
        AssertionError: names the layers, their experts and counts.
        InvalidRequest: `at_least_tokens` is no number above 0. UnknownName: a modality that the record does not count.
        Unreadable: there is no calibration record.
    """
    __tracebackhide__ = True
    least = _count("at_least_tokens", at_least_tokens)
    counted = _tokens(_record(record_or_checkpoint), modalities)
    counts = [count for layers in counted.values() for experts in layers.values() for count in experts]
    details = {name: sum(map(sum, layers.values())) for name, layers in counted.items()}
    measured = Measurement("tokens of an expert", min(counts, default=0), least, "tokens", details)
    findings = [
        _uncovered(kind, layer, experts, least)
        for kind, layers in counted.items()
        for layer, experts in layers.items()
        if min(experts, default=0) < least
    ]
    if not counts:
        findings = ["the record counts no tokens. Fix: calibrate again with conversations"]
    if findings:
        short = sum(count < least for count in counts)
        shown = f"{short} of {len(counts)} counts are below at_least_tokens = {least}, the smallest is {measured.value}"
        _fail("assert_expert_coverage", _place(record_or_checkpoint), shown, findings)
    return measured


def assert_chatml(prompt_or_messages: str | Iterable[Mapping[str, Any]]) -> Measurement:
    """Assert that a prompt has the role markers that speech needs, or that messages have the roles it is made of.

    The value is the number of turns.

    Raises:
        AssertionError: names the missing role marker, and shows how the prompt begins.
    """
    __tracebackhide__ = True
    from pytest_q3omni.omni.chatml import ROLES, check_chatml, check_chatml_messages

    if isinstance(prompt_or_messages, str):
        turns = {role: prompt_or_messages.count(f"<|im_start|>{role}") for role in ROLES}
    else:
        prompt_or_messages = list(getattr(prompt_or_messages, "messages", prompt_or_messages))
        if not all(isinstance(message, Mapping) for message in prompt_or_messages):
            raise InvalidRequest("a message that is no mapping", expected='{"role": ..., "content": ...}')
        turns = {role: sum(message.get("role") == role for message in prompt_or_messages) for role in ROLES}
    try:
        if isinstance(prompt_or_messages, str):
            check_chatml(prompt_or_messages)
        else:
            check_chatml_messages(prompt_or_messages)
    except NotChatML as error:
        _fail("assert_chatml", "", "speech needs role markers", [str(error)])
    return Measurement("turns", sum(turns.values()), None, "turns", turns)


def assert_verified(
    checkpoint: _Checkpoint,
    *,
    source: _Checkpoint | None = None,
    record: _Checkpoint | None = None,
    require: Sequence[str] = (),
) -> Measurement:
    """Assert that `q3omni verify` finds no error, and that every verdict in `require` was checked and passed.

    The value is the number of errors; `details["verdicts"]` has every state, `details["findings"]` warnings, too.

    Raises:
        AssertionError: lists every finding, errors first, and every required verdict that was not checked.
        Unreadable, UnknownName: there is nothing to judge, or `require` names no verdict.
    """
    __tracebackhide__ = True
    from pytest_q3omni import api

    place = _path(checkpoint)
    judgement = api.verify(place, source=_optional(source), record=_optional(record), require=require)
    _hear(judgement)
    errors = [finding for finding in judgement.findings if finding.severity == "error"]
    states = {verdict.name: verdict.state for verdict in judgement.verdicts}
    details = {"verdicts": states, "findings": judgement.findings, "facts": judgement.facts}
    asked = (judgement.verdict(name) for name in dict.fromkeys(require))
    unchecked = [f"{verdict.name}: required, not checked: {verdict.why}" for verdict in asked if verdict.state == _OPEN]
    if errors or unchecked:
        shown = ", ".join(f"{name} {state}" for name, state in states.items() if state != _OPEN)
        _fail("assert_verified", place, shown, [*map(str, judgement.findings), *unchecked])
    return Measurement("errors", len(errors), 0, "errors", details)


def assert_output_parity(
    original: _Checkpoint,
    quantized: _Checkpoint,
    *,
    conversations: str | PathLike[str] | Sequence[Conversation] | None = None,
    numerics: str | None = None,
    max_mean_kl: float | None = None,
    min_top1: float | None = None,
) -> Measurement:
    """Assert that the checkpoint answers like its original: text, image, audio and speech, in each of its numerics.

    Without `max_mean_kl` the limit of each row is four times what plain NVFP4 of the same layers costs (`parity/
    limits.py`), and too few answer tokens to say so are a failure, too. `conversations` as in `api.parity`; the
    built-in tiny model brings its own. max_mean_kl: nats per answer token. min_top1: share of tokens, 0 to 1.
    The value is the largest mean KL; `details["rows"]` has each row's, `details["parity"]` all that was measured.

    Raises:
        AssertionError: names the modality, the number, the limit; and input scales that fit no input, by module.
        InvalidRequest: a bound that cannot be one, no conversations, numerics that the checkpoint has not.
        MissingDependency: the `quantize` extra is not installed.
    """
    __tracebackhide__ = True
    from pytest_q3omni import api

    most = None if max_mean_kl is None else _bound("max_mean_kl", max_mean_kl, most=math.inf, why="nats", fix=_OWN)
    share = "a share: write 0.95 for 95 %"
    least = None if min_top1 is None else _bound("min_top1", min_top1, most=1.0, why=share, fix=_OWN)
    found = api.parity(
        _path(original), _path(quantized), conversations=conversations, numerics=numerics, device=_device(original)
    )
    _hear(found)
    worst = max(found.agreements, key=lambda row: row.divergence.mean / (most or row.limit or 1.0))
    bound = worst.limit if most is None else most
    details = {"rows": {f"{row.modality} {row.numerics}": row for row in found.agreements}, "parity": found}
    measured = Measurement("mean KL", worst.divergence.mean, bound, "nats", details)
    findings = _apart(found, most, least)
    if findings:
        shown = f"mean KL of {worst.modality} answers in {worst.numerics.upper()} is {measured.value:.4g} nats, "
        _fail("assert_output_parity", _path(quantized), f"{shown}the limit is {bound:.4g}", findings)
    return measured


def _apart(parity: Parity, most: float | None, least: float | None) -> list[str]:
    """Why the answers do not agree: by the rows' own limits, or by the caller's."""
    short = {f"{row.modality} answers in {row.numerics.upper()}" for row in parity.agreements if row.state == _OPEN}
    own = [found for found in parity.findings if found.severity == "error" or found.where in short]
    findings = [str(found) for found in own if most is None or found.check != "answers"]
    for row in parity.agreements:
        seen, where = row.divergence, f"{row.modality} answers in {row.numerics.upper()}"
        if most is not None and not seen.mean <= most:
            findings.append(
                f"{where}: mean KL {seen.mean:.4g} ± {seen.error:.2g} nats over {seen.tokens:,} tokens; expected at most "
                f"{most:g} (plain NVFP4 costs {row.plain.mean:.4g}). {_TENSORS}"
            )
        if least is not None and not seen.top1 >= least:
            findings.append(
                f"{where}: top-1 agreement {seen.top1:.2%} over {seen.tokens:,} tokens; expected at least {least:.2%} "
                f"(plain NVFP4 has {row.plain.top1:.2%}). {_TENSORS}"
            )
    return findings


def _device(checkpoint: _Checkpoint) -> str | None:
    """Where a model handle runs; None of a path."""
    return getattr(checkpoint, "device", None)


def _hear(judged: Judgement | Parity) -> None:
    """Let --q3omni-report know of it."""
    collected = _judged.get()
    if collected is not None:
        collected.append(judged)


def _fail(name: str, place: object, shown: str, findings: Sequence[str]) -> None:
    __tracebackhide__ = True
    head = f"{name}: {place}: {shown}" if str(place) else f"{name}: {shown}"
    raise AssertionError("\n  ".join([head, *findings]))


def _path(checkpoint: _Checkpoint) -> Path:
    return Path(checkpoint) if isinstance(checkpoint, str | PathLike) else Path(checkpoint.path)


def _optional(checkpoint: _Checkpoint | None) -> Path | None:
    return None if checkpoint is None else _path(checkpoint)


def _place(given: _Record) -> object:
    return "calibration record" if isinstance(given, CalibrationRecord) else _path(given)


def _bound(name: str, value: object, *, most: float, why: str, fix: str = _RECIPES) -> float:
    """A bound in (0, most]; anything else would pass or fail whatever the checkpoint is."""
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not (0 < number <= most and math.isfinite(number)):
        expected = f"a number above 0{f', at most {most:g}' if math.isfinite(most) else ''} ({why})"
        raise InvalidRequest(f"{name}={value!r}", expected=expected, fix=fix)
    return number


def _count(name: str, value: object) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise InvalidRequest(f"{name}={value!r}", expected="a whole number above 0", fix="leave it out for the default")
    return int(value)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


# --- sizes


def _subject(checkpoint: _Checkpoint, original: _Checkpoint | None = None) -> Subject:
    """The checkpoint's headers and config; damaged containers are an error here, not a measurement."""
    from pytest_q3omni.omni.checkpoint import open_checkpoint
    from pytest_q3omni.verify.subject import Subject

    source = None if original is None else open_checkpoint(_path(original))
    return Subject(open_checkpoint(_path(checkpoint)), source=source)


def _facts(subject: Subject) -> Facts:
    from pytest_q3omni.verify.facts import facts

    return facts(subject)


def _smaller(subject: Subject, planned_enough: bool) -> list[str]:
    """Why the checkpoint is larger than asked: modules not packed as declared, or a plan that cannot reach it."""
    from pytest_q3omni.verify.facts import planned

    declared = {row.module: row.numerics for row in planned(subject) if row.numerics}
    unpacked = [module for module in declared if module not in subject.packed]
    findings = []
    for module in unpacked[:_NAMED]:
        entry = subject.entries.get(f"{module}.weight")
        stored = "absent" if entry is None else f"stored as {entry.info.dtype} {list(entry.info.shape)}"
        findings.append(f"{module}: declared {declared[module].upper()}, {stored}. Fix: pack it again")
    if len(unpacked) > _NAMED:
        findings.append(f"... and {len(unpacked) - _NAMED:,} more modules that are declared packed and are not")
    if not declared:
        findings.append("config.json declares no packed module. Fix: pack it, `q3omni quantize SRC OUT --recipe R`")
    elif not planned_enough:
        fix = "choose a recipe that packs more (`q3omni plan` compares them), or lower the bound"
        findings.append(f"packed as planned, and the plan does not reach the bound. Fix: {fix}")
    return findings or ["tensors are larger than planned. Fix: `q3omni verify` names them"]


# --- calibration


def _record(given: _Record) -> CalibrationRecord:
    from pytest_q3omni import api

    return given if isinstance(given, CalibrationRecord) else api.load_record(_path(given))


def _scales_without_data(given: _Record, record: CalibrationRecord) -> list[str]:
    """Input scales of a checkpoint that no recorded input stands behind."""
    from pytest_q3omni.omni.checkpoint import CONFIG, open_checkpoint
    from pytest_q3omni.omni.naming import input_site

    if isinstance(given, CalibrationRecord) or not (_path(given) / CONFIG).is_file():
        return []
    names = open_checkpoint(_path(given)).entries
    modules = (name.removesuffix(".input_scale") for name in names if name.endswith(".input_scale"))
    sites = dict.fromkeys(site for site in map(input_site, modules) if site not in record.input_amax)
    return [f"{site}: an input scale, and no amax in the record. {_REACH}, and pack again" for site in sites]


def _tokens(record: CalibrationRecord, modalities: Iterable[str] | None) -> dict[str, dict[str, tuple[int, ...]]]:
    """Modality -> layer -> tokens per expert; `_ALL` sums over all modalities."""
    if modalities is not None:
        chosen = [modalities] if isinstance(modalities, str) else list(modalities)
        for name in chosen:
            if name not in record.expert_tokens:
                known = ", ".join(record.expert_tokens) or "none"
                raise UnknownName(f"no modality is called '{name}'", expected=f"one of {known}", fix="correct the name")
        return {name: dict(record.expert_tokens[name]) for name in chosen}
    total: dict[str, tuple[int, ...]] = {}
    for layers in record.expert_tokens.values():
        for layer, experts in layers.items():
            total[layer] = tuple(map(sum, zip(total.get(layer, (0,) * len(experts)), experts, strict=True)))
    return {_ALL: total}


def _uncovered(kind: str, layer: str, experts: Sequence[int], least: int) -> str:
    short = [number for number, count in enumerate(experts) if count < least]
    named = ", ".join(f"{number} ({experts[number]})" for number in short[:_NAMED])
    rest = f" and {len(short) - _NAMED} more" if len(short) > _NAMED else ""
    tokens, fix = ("tokens", "more conversations") if kind == _ALL else (f"{kind} tokens", f"conversations with {kind}")
    return f"{layer}: too few tokens in experts {named}{rest}; expected at least {least} {tokens} each. Fix: add {fix}"
