"""Did calibration see what it had to see?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from pytest_q3omni.assertions._arguments import AnyRecord, path_of, place_of, whole
from pytest_q3omni.assertions.outcome import NAMED, fail
from pytest_q3omni.errors import UnknownName
from pytest_q3omni.records import CalibrationRecord, Measurement

_REACH = "Fix: calibrate with conversations that reach this layer"
_ALL = "all modalities"


def assert_calibrated(record_or_checkpoint: AnyRecord, *, at_least_samples: int | None = None) -> Measurement:
    """Assert that every conversation of the calibration passed, and that every recorded input has a usable amax.

    Of a checkpoint, also that each of its input scales comes from the record. The value is the number of samples.

    Raises:
        AssertionError: names failed samples with their cause, and inputs without data.
        InvalidRequest: `at_least_samples` is no number above 0.
        Unreadable: there is no calibration record.
    """
    __tracebackhide__ = True
    least = 1 if at_least_samples is None else whole("at_least_samples", at_least_samples)
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
        fail("assert_calibrated", place_of(record_or_checkpoint), shown, findings)
    return measured


def assert_expert_coverage(
    record_or_checkpoint: AnyRecord, *, at_least_tokens: int = 1, modalities: Iterable[str] | None = None
) -> Measurement:
    """Assert that every expert of every layer saw enough tokens: in all, or of each of `modalities`.

    The value is the smallest count.

    Raises:
        AssertionError: names the layers, their experts and counts.
        InvalidRequest: `at_least_tokens` is no number above 0. UnknownName: a modality that the record does not count.
        Unreadable: there is no calibration record.
    """
    __tracebackhide__ = True
    least = whole("at_least_tokens", at_least_tokens)
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
        fail("assert_expert_coverage", place_of(record_or_checkpoint), shown, findings)
    return measured


def _record(given: AnyRecord) -> CalibrationRecord:
    from pytest_q3omni import api

    return given if isinstance(given, CalibrationRecord) else api.load_record(path_of(given))


def _scales_without_data(given: AnyRecord, record: CalibrationRecord) -> list[str]:
    """Input scales of a checkpoint that no recorded input stands behind."""
    from pytest_q3omni.omni.checkpoint import CONFIG, open_checkpoint
    from pytest_q3omni.omni.naming import input_site

    if isinstance(given, CalibrationRecord) or not (path_of(given) / CONFIG).is_file():
        return []
    names = open_checkpoint(path_of(given)).entries
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
    named = ", ".join(f"{number} ({experts[number]})" for number in short[:NAMED])
    rest = f" and {len(short) - NAMED} more" if len(short) > NAMED else ""
    tokens, fix = ("tokens", "more conversations") if kind == _ALL else (f"{kind} tokens", f"conversations with {kind}")
    return f"{layer}: too few tokens in experts {named}{rest}; expected at least {least} {tokens} each. Fix: add {fix}"
