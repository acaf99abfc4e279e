"""The model card says what the tensors say.

A public NVFP4 Qwen3-Omni has 195 modules of its audio tower and 116 of its vision tower packed while its card says BF16
(vllm-omni#1854). Our own card is made of numbers, and every one of them is compared. Of a foreign card only plain
statements count: one part and one precision in a clause, a ratio or a size (`verify/card_claims.py`). 3.56 times
smaller is what NVFP4 can reach: 16 bits over 4.5. A card that was copied from the original says nothing of the
quantization, which is a warning; no card at all is nobody's contradiction.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator

from pytest_q3omni.records import CalibrationRecord, Facts, Severity
from pytest_q3omni.verify import card_claims
from pytest_q3omni.verify.card_claims import Clause
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.companions import Companions
from pytest_q3omni.verify.facts import facts
from pytest_q3omni.verify.subject import Form, Subject, part_of

CARD = "README.md"
_FIX = "correct the card: `q3omni verify --format json` prints what the tensors say"
_OWN = "Written by pytest-q3omni"
_BEST_RATIO = 16 / 4.5
_STALE = 3  # lines of our own card that are off, from which on it is another version's
_ROUNDED = 0.01
_OVER = 1.15  # a claimed ratio over the real one; a card may round
_SIZE_SLACK = 0.15
_TEXT_MODEL = ("thinker", "decoder")
_FORMS: dict[Form, card_claims.Precision] = {"packed": "NVFP4", "fp8": "FP8", "plain": "BF16"}


def _find(subject: Subject) -> Iterator[Fault]:
    text = Companions(subject.checkpoint.path).text(CARD)
    if text is None or not subject.packed:
        return
    if _OWN in text:
        if not subject.broken:  # whatever is wrong with the tensors is wrong in their sums, too
            yield from _own(subject, text[: card_claims.MOST_TEXT])
        return
    original = None if subject.source is None else Companions(subject.source.path).text(CARD)
    if original is not None and original.strip() == text.strip():
        found = "the original's card: it says nothing of the quantization"
        yield Fault(CARD, found, "a card of this checkpoint", "write what is packed, and how", "warning")
        return
    yield from _foreign(subject, list(card_claims.clauses(text)))


# --- our own card


def _own(subject: Subject, text: str) -> Iterator[Fault]:
    """Each statement that is not so, bytes to a hundredth: a norm in float32 makes no card wrong. One that is off in
    many lines was written for an earlier version of these weights (a stage taken out, layers in FP8): a warning."""
    found = facts(subject)
    counts = {f"{size.parameters:,}" for size in found.stages.values()} | {f"{found.parameters:,}"}
    wrong = [(line, said, so) for line, (said, so) in _statements(subject, text, found) if said != so]
    wrong = [item for item in wrong if item[2] in counts or not _near(*item[1:])]
    stale = len({line for line, *_ in wrong}) >= _STALE
    for line, said, expected in wrong[:1] if stale else wrong:
        more = f", and {len(wrong) - 1} more that is not so: of an earlier version" if stale else ""
        severity: Severity = "warning" if stale else "error"
        yield Fault(
            f"{CARD}:{line}", f"says {said!r:.80}{more}", f"{expected!r:.80}, as the tensors say", _FIX, severity
        )


def _near(said: str, expected: str) -> bool:
    try:
        left, right = (float(number.replace(",", "")) for number in (said, expected))
    except ValueError:
        return False
    return abs(left - right) <= _ROUNDED * abs(right)


_Pair = tuple[str, str]


def _statements(subject: Subject, text: str, found: Facts) -> Iterator[tuple[int, _Pair]]:
    """(line, (what our card says, what it should say)) of each number in it."""
    kept = (name for name, tensor in subject.implied.items() if subject.expected.get(name) is tensor)
    exact = subject.source is not None or all(
        subject.entries[name].info.dtype == "BF16" for name in kept if name in subject.entries
    )
    known: list[tuple[str, Callable[[], tuple[str, ...]]]] = [
        (r"with ([\d.,]+) % of its ([\d.,]+) parameters", lambda: _share(found)),
        (r"`, (W\d+A\d+)\)", lambda: (_numerics(subject),)),
        (r"([\d.,]+) bits per parameter", lambda: (f"{found.bits_per_parameter:.2f}",)),
    ]
    if exact:
        known.append((r"([\d.,]+)x smaller than the original", lambda: (f"{found.compression_ratio:.2f}",)))
    if subject.record is not None:
        record = subject.record
        known.append((r"Calibrated with (\d+) of (\d+) conversations \(([^)]{0,200})\)", lambda: _calibrated(record)))
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, expected in known:
            for match in re.finditer(pattern, line):
                yield from ((number, pair) for pair in zip(match.groups(), expected(), strict=True))
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if len(cells) == 6 and cells[0] in found.stages:
            yield from ((number, pair) for pair in _row(subject, cells, found, exact=exact))


def _share(found: Facts) -> tuple[str, ...]:
    return f"{100 * found.quantized_fraction:.2f}", f"{found.parameters:,}"


def _numerics(subject: Subject) -> str:
    return Counter(subject.numerics(packed).upper() for packed in subject.packed.values()).most_common(1)[0][0]


def _calibrated(record: CalibrationRecord) -> tuple[str, ...]:
    counts = ", ".join(f"{modality} {count}" for modality, count in record.samples.items())
    return str(record.samples_passed), str(record.samples_total), counts


def _row(subject: Subject, cells: list[str], found: Facts, *, exact: bool) -> Iterator[_Pair]:
    """The cells of a stage's row: parameters, bytes before and now, packed and unpacked parts."""
    size = found.stages[cells[0]]
    yield cells[1], f"{size.parameters:,}"
    if exact:
        yield cells[2], f"{size.source_bytes:,}"
    yield cells[3], f"{size.tensor_bytes:,}"
    packed, kept = set[str](), set[str]()
    for tensor in subject.implied.values():
        module = tensor.name.removesuffix(".weight")
        stage, part = part_of(module) if tensor.name.endswith(".weight") else ("", None)
        if stage == cells[0] and part is not None:
            (packed if module in subject.packed else kept).add(part.name)
    yield cells[4], ", ".join(sorted(packed)) or "none"
    if not packed <= kept:
        said = {name.strip() for name in cells[5].split(",")}
        yield ", ".join(sorted(said & packed)) or "none", ", ".join(sorted(packed & kept)) or "none"


# --- others' cards


def _foreign(subject: Subject, found: list[Clause]) -> Iterator[Fault]:
    yield from _parts(subject, found)
    yield from _whole(subject, found)
    actual = None
    for ratio, clause in card_claims.ratios(found):
        if ratio > _BEST_RATIO + 0.005:
            expected = f"at most {_BEST_RATIO:.2f}x: NVFP4 takes 4.5 bits of 16"
            yield _fault(clause, f"{ratio:g}x smaller is impossible", expected)
            continue
        actual = actual or facts(subject)
        if ratio > _OVER * actual.compression_ratio:
            yield _fault(clause, f"{ratio:g}x smaller", f"{actual.compression_ratio:.2f}x")
    for size, told, clause in card_claims.sizes(found):
        stored = sum(entry.end - entry.begin for entry in subject.entries.values())
        if abs(size - stored) > _SIZE_SLACK * stored:
            yield _fault(clause, told, f"{stored:,} bytes of tensors")


def _fault(clause: Clause, found: str, expected: str) -> Fault:
    return Fault(f"{CARD}:{clause.line}", f"{found} (in {clause.text!r:.120})", expected, _FIX)


def _parts(subject: Subject, found: list[Clause]) -> Iterator[Fault]:
    stored = _stored(subject)
    for claim in card_claims.claims(found):
        for part in claim.parts:
            if part == "KV cache":
                yield from _kv_cache(subject, claim)
                continue
            counts = stored.get(part)
            if counts is None or _holds(claim.precision, counts):
                continue
            told = ", ".join(f"{count:,} {form}" for form, count in counts.most_common())
            yield _fault(claim.clause, f"says {claim.precision} of the {part}", f"{told}, as its Linears are stored")


def _holds(claimed: card_claims.Precision, counts: Counter[card_claims.Precision]) -> bool:
    """True where a claim about a part may pass: some of it is stored so, and for BF16 the larger share."""
    share = counts[claimed] / counts.total()
    return share >= 0.5 if claimed == "BF16" else share > 0


def _kv_cache(subject: Subject, claim: card_claims.Claim) -> Iterator[Fault]:
    declared = subject.claim is not None and subject.claim.declared.kv_cache
    if claim.precision == "BF16" and declared:
        yield _fault(claim.clause, "says BF16 of the KV cache", "FP8, as config.json declares it")


def _stored(subject: Subject) -> dict[str, Counter[card_claims.Precision]]:
    """Part, as cards call it -> how many of its Linears are stored in which precision."""
    found: dict[str, Counter[card_claims.Precision]] = {}
    for module, _, form in subject.linears:
        stage, part = part_of(module)
        if form != "absent" and part is not None:
            found.setdefault(_called(stage, part.name), Counter())[_FORMS[form]] += 1
    return found


def _called(stage: str, part: str) -> str:
    if part == "visual":
        return "vision tower"
    if part == "audio tower" or stage in _TEXT_MODEL:
        return part
    return "code predictor" if stage == "code_predictor" else stage


def _whole(subject: Subject, found: list[Clause]) -> Iterator[Fault]:
    """Another format than NVFP4 for all of it, or the other numerics."""
    for told, clause in card_claims.whole_formats(found):
        if not (told == "fp8" and subject.fp8):
            expected = f"NVFP4, as {len(subject.packed):,} layers are packed"
            yield _fault(clause, f"says {told.upper()}", expected)
            return
    claimed = card_claims.numerics(found)
    stored = {subject.numerics(packed) for packed in subject.packed.values()}
    if claimed is not None and stored and claimed[0] not in stored:
        has = (
            "weight-only (W4A16): no layer has quantized inputs" if "w4a16" in stored else "W4A4: inputs are quantized"
        )
        yield _fault(claimed[1], f"says {claimed[0].upper()}", has)


CHECK = Check(
    "model-card",
    "consistent",
    __doc__,
    _find,
    after=(
        *("finite-values", "input-scale-range", "fp8-input-scale-range", "kv-cache-scales", "companions", "pickles"),
        *("hf-quant-config", "weight-variety", "samples", "record-files", "record-source", "expert-coverage"),
    ),
)
