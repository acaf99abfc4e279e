"""`agrees`: what the rows and ranges of a comparison come to, as findings and as one verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pytest_q3omni.parity.limits import FACTOR
from pytest_q3omni.parity.logits import MODALITIES
from pytest_q3omni.parity.speech import MOST_SPOKEN
from pytest_q3omni.records import Agreement, Finding, Judgement, Parity, SpeechAgreement, Verdict

CHECK, SOUND_CHECK = "answers", "waveforms"
NAME = "agrees"
LEAST_SNR = 20.0
"""Decibels, a judgement: BF16 alone is precise to some 50, and weights rounded to NVFP4 (relative error 0.095 on
trained ones) are at 20 after one layer. No engine runs a packed vocoder."""


def answer_findings(rows: Sequence[Agreement]) -> Iterator[Finding]:
    """Rows beyond their limit (errors), and rows with too few answers to say (warnings)."""
    passed = {row.modality for row in rows if row.numerics == "w4a16" and row.state == "pass"}
    for row in rows:
        found, where = row.divergence, row.where
        if row.state == "fail":
            yield Finding(
                CHECK, "error", where,
                f"mean KL {found.mean:.4g} ± {found.error:.2g} nats over {found.tokens:,} tokens, "
                f"top-1 agreement {found.top1:.1%}",
                _bound(row), _fix(row, row.modality in passed),
            )  # fmt: skip
        elif row.state == "not checked":
            has, needs = _lacks(row)
            yield Finding(
                CHECK, "warning", where, has, f"{needs} or more, for a limit that means something",
                _MORE.get(row.modality, f"add conversations with {row.modality}"),
            )  # fmt: skip


def _lacks(row: Agreement) -> tuple[str, str]:
    """What a row that is not checked has, and what it needs: a single conversation says nothing of spread."""
    found = row.divergence
    if found.conversations < 2:
        return "1 conversation", "2 conversations"
    return f"{found.tokens:,} answer tokens", f"{row.needed_tokens:,} answer tokens"


_SPEAK = f"add conversations with a picture or sound and longer answers: {MOST_SPOKEN} are spoken, in turn"
_MORE = {
    "text": "add conversations of text alone",
    "talker": _SPEAK,
    "code_predictor": _SPEAK,
}


def _bound(row: Agreement) -> str:
    if row.numerics == "bf16":
        return f"at most {row.limit:.4g}, {FACTOR:g} times what BF16 differs from itself by: nothing is packed here"
    layers = "plain NVFP4 of the same layers costs"
    return f"at most {row.limit:.4g}, {FACTOR:g} times what {layers} ({row.plain.mean:.4g}, and its uncertainty)"


def _fix(row: Agreement, weights_agree: bool) -> str:
    if row.numerics == "w4a4" and weights_agree:
        return "the weights alone agree (W4A16), so look at the input scales: calibrate again, and pack again"
    return "`q3omni verify QUANTIZED --source ORIGINAL` names the tensors that are not what packing gives"


def sound_findings(voices: Sequence[SpeechAgreement]) -> Iterator[Finding]:
    """The original's codes do not sound like the original: the vocoder is another. What is said is the rows' matter."""
    for voice in voices:
        for sample in voice.samples:
            if sample.vocoder_snr is not None and sample.vocoder_snr < LEAST_SNR:
                yield Finding(
                    SOUND_CHECK, "error", f"speech in {voice.numerics.upper()}, {sample.conversation}",
                    f"from the same codes, {sample.vocoder_snr:.1f} dB between the two waveforms",
                    f"{LEAST_SNR:g} dB or more", "take code2wav's tensors from the original: no engine runs it packed",
                )  # fmt: skip


def unasked(rows: Sequence[Agreement], speaks: bool) -> Iterator[Finding]:
    """A warning for each modality that no conversation asked about."""
    asked = {row.modality for row in rows}
    for modality in MODALITIES:
        if modality not in asked:
            with_it = "of text alone" if modality == "text" else f"with {modality}"
            yield Finding(
                CHECK, "warning", f"{modality} answers", "no conversation asks for them", f"some {with_it}",
                f"add conversations {with_it}",
            )  # fmt: skip
    if speaks and not asked & {"talker", "code_predictor"}:
        yield Finding(
            CHECK, "warning", "speech answers", "none is spoken that what is packed could change",
            "some to a picture or to sound", "add conversations with a picture or with sound, not with both",
        )  # fmt: skip


def asks_all(rows: Sequence[Agreement]) -> bool:
    """Whether every modality that a question can have was asked."""
    return {row.modality for row in rows} >= set(MODALITIES)


MUTE = Finding(
    CHECK, "warning", "speech answers", "the original speaks, the checkpoint has no talker or no code2wav", "both",
    "pack the whole model, or name an original without them",
)  # fmt: skip
"""Where the checkpoint lost its voice; a thinker alone may be what was wanted."""


def agrees(rows: Sequence[Agreement], findings: Sequence[Finding]) -> Verdict:
    """Fails with any error; passes if every row passes."""
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        count = f"{len(errors):,} error{'' if len(errors) == 1 else 's'}"
        return Verdict(NAME, "fail", f"{count}, first {errors[0].where}: {errors[0].found}")
    short = [row for row in rows if row.state == "not checked"]
    if short:
        has, needs = _lacks(short[0])
        where = f"{short[0].modality} in {short[0].numerics.upper()}"
        return Verdict(NAME, "not checked", f"{where} has {has}, needs {needs} or more")
    missing = [found.where.removesuffix(" answers") for found in findings if found.where.endswith(" answers")]
    left_out = f"; not compared: {', '.join(missing)}" if missing else ""
    return Verdict(NAME, "pass", _why(rows) + left_out)


def _why(rows: Sequence[Agreement]) -> str:
    modalities = ", ".join(dict.fromkeys(row.modality for row in rows))
    numerics = " and ".join(dict.fromkeys(row.numerics.upper() for row in rows))
    nearest = max(rows, key=lambda row: row.divergence.mean / row.limit if row.limit else 0.0)
    place = f"{nearest.modality} in {nearest.numerics.upper()}"
    shown = f"{nearest.divergence.mean:.2g} of at most {nearest.limit:.2g}"
    return f"{modalities} in {numerics}; nearest to its limit: {place}, {shown}"


def with_parity(judgement: Judgement, parity: Parity) -> Judgement:
    """The judgement of the files, with `agrees` answered."""
    verdicts = tuple(parity.verdict if verdict.name == NAME else verdict for verdict in judgement.verdicts)
    findings = sorted((*judgement.findings, *parity.findings), key=lambda finding: finding.severity != "error")
    return replace(judgement, verdicts=verdicts, findings=tuple(findings))
