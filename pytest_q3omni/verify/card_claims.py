"""What a model card claims, read narrowly: a clause counts where it names one part, one precision and nothing else.

A card is free text from a stranger. Whatever is not plainly a statement about how a part of this checkpoint is stored
is passed over: a false alarm costs more than a lie that nobody spelled out. Bounded in size and time: at most 1 MB is
read, clauses longer than 300 characters are left out, and no pattern here repeats within a repetition.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, NamedTuple

Precision = Literal["NVFP4", "FP8", "BF16"]

MOST_TEXT = 1_000_000  # characters of a card
_MOST_CLAUSES = 20_000
_LONGEST = 300  # characters of a clause

PRECISIONS: dict[Precision, re.Pattern[str]] = {
    "NVFP4": re.compile(r"\b(?:nvfp4|fp4|w4a4|w4a16|4[- ]?bits?)\b"),
    "FP8": re.compile(r"\b(?:fp8|8[- ]?bits?|w8a8)\b"),
    "BF16": re.compile(r"\b(?:bf16|bfloat16|unquanti[sz]ed|full[- ]precision|16[- ]?bits?)\b"),
}
PARTS = {
    "audio tower": re.compile(r"\baudio[ _-]?(?:tower|encoder)s?\b"),
    "vision tower": re.compile(r"\bvis(?:ion|ual)[ _-]?(?:tower|encoder|transformer)s?\b|\bvisual\b|\bvision\b"),
    "code predictor": re.compile(r"\bcode[ _-]?predictor\b"),
    "talker": re.compile(r"\btalker\b"),
    "code2wav": re.compile(r"\bcode2wav\b|\bvocoder\b"),
    "lm_head": re.compile(r"\blm[ _-]?head\b"),
    "router": re.compile(r"\brouters?\b|\bmlp\.gate\b"),
    "experts": re.compile(r"\bexperts?\b"),
    "attention": re.compile(r"\battention\b|\bself[_-]attn\b"),
    "KV cache": re.compile(r"\bkv[ _-]?cache\b"),
}
_UNQUANTIZED = re.compile(
    r"\b(?:not|never) (?:been )?quanti[sz]ed\b|\b(?:excluded|left out|exempt) (?:from|of) quanti[sz]ation\b"
)
# What makes a clause more than a statement about this checkpoint: negation, comparison, condition, hardware, scales.
_PASSED_OVER = re.compile(
    r"\b(?:not|no|never|without|except|excluding|unlike|instead|rather|than|vs|versus|compared|from|before|original|"
    r"originally|source|baseline|base|if|when|while|whereas|but|or|either|can|could|may|might|should|would|will|to be|"
    r"only|other|others|rest|remaining|some|most|half|partly|partially|scales?|scaling|backend|kernels?|flash|compute|"
    r"computed|computes|accumulat\w*|softmax|runtime|dequanti[sz]ed?|upcast|emulat\w*|training|trained|fine-?tun\w*|"
    r"activations?|inputs?|shared|dense|first|last|layers? \d+)\b|n't\b|\?"
)
_CONNECTED = re.compile(r"[\s,/&+()`*_-]*(?:and|&|/|\+|,|as well as)[\s,/&+()`*_-]*(?:the|both|its)?[\s`*_-]*")
_SPLIT = re.compile(r"[,;\n]|\.(?=\s|$)")
_FENCE = ("```", "~~~")


class Clause(NamedTuple):
    """A piece of a card in lower case, its line (from 1), and whether it is a heading."""

    text: str
    line: int
    heading: bool


class Claim(NamedTuple):
    """Parts that a clause says are stored in one precision."""

    parts: tuple[str, ...]
    precision: Precision
    clause: Clause


def clauses(card: str) -> Iterator[Clause]:
    """The clauses of a card, without its front matter and code; a row of a table is one clause."""
    lines = card[:MOST_TEXT].lower().splitlines()
    start = 0
    if lines and lines[0].strip() == "---":
        start = next((number + 1 for number, line in enumerate(lines[1:], 1) if line.strip() == "---"), 0)
    fenced, count = False, 0
    for number, line in enumerate(lines[start:], start + 1):
        stripped = line.strip()
        if stripped.startswith(_FENCE):
            fenced = not fenced
            continue
        if fenced or line.startswith("    "):
            continue
        row = stripped.startswith("|")
        for piece in [stripped.replace("|", " ")] if row else _SPLIT.split(stripped):
            text = piece.strip()
            count += bool(text)
            if count > _MOST_CLAUSES:
                return
            if text and len(text) <= _LONGEST:
                yield Clause(text, number, stripped.startswith("#"))


def claims(found: list[Clause]) -> Iterator[Claim]:
    """The statements about parts, of all clauses that are one."""
    for clause in found:
        text = _UNQUANTIZED.sub("unquantized", clause.text)
        precisions = [name for name, pattern in PRECISIONS.items() if pattern.search(text)]
        if len(precisions) != 1 or _PASSED_OVER.search(text):
            continue
        parts = _parts(text)
        if parts:
            yield Claim(parts, precisions[0], clause)


def _parts(text: str) -> tuple[str, ...]:
    """The parts that a clause names: one, or several joined by nothing but "and"; none where they are further apart."""
    found = sorted((m.start(), m.end(), name) for name, pattern in PARTS.items() for m in pattern.finditer(text))
    for (_, end, _), (start, _, _) in pairwise(found):
        if not _CONNECTED.fullmatch(text[end:start]):
            return ()
    return tuple(dict.fromkeys(name for _, _, name in found))


_RATIO = re.compile(
    r"(?<![\d.])(\d{1,4}(?:\.\d{1,6})?) ?(?:x|×|times) (?:smaller|compression|compressed|reduction|less)"
)
_OTHER_RATIO = re.compile(
    r"\b(?:kv|cache|fp32|float32|bandwidth|latency|faster|activations?|cost|price|time|layers|up to|"
    r"theoretical|theoretically|at best)\b"
)


def ratios(found: list[Clause]) -> Iterator[tuple[float, Clause]]:
    """How many times smaller the checkpoint is said to be than the original."""
    for clause in found:
        if not _OTHER_RATIO.search(clause.text):
            yield from ((float(match[1]), clause) for match in _RATIO.finditer(clause.text))


_SIZE = re.compile(r"(?<![\d.])(\d{1,6}(?:\.\d{1,4})?) ?(gib|gb|mib|mb)\b")
_UNITS = {"gib": 2**30, "gb": 10**9, "mib": 2**20, "mb": 10**6}
_OF_FILES = re.compile(
    r"\b(?:(?:checkpoint|model|file|download|disk) size|size on disk|on disk|size of the (?:model|checkpoint|files))\b"
)
_OTHER_SIZE = re.compile(r"\b(?:bf16|original|base|from|gpu|vram|ram|memory|per|saved?|saves|smaller|less|than)\b")


def sizes(found: list[Clause]) -> Iterator[tuple[float, str, Clause]]:
    """(bytes, as written, clause) of sizes that the checkpoint is said to have on disk."""
    for clause in found:
        given = _SIZE.findall(clause.text)
        if len(given) == 1 and _OF_FILES.search(clause.text) and not _OTHER_SIZE.search(clause.text):
            number, unit = given[0]
            yield float(number) * _UNITS[unit], f"{number} {unit}", clause


_FORMAT = r"(nvfp4|fp4|mxfp4|fp8|int4|int8|awq|gptq|gguf|q4_k_m|q8_0|bitsandbytes|nf4)"
_WHOLE = re.compile(rf"\bquanti[sz]ed (?:to|with|in|using|as|into) (?:the )?{_FORMAT}\b|\b{_FORMAT}[- ]quanti[sz]ed\b")
_TITLE = re.compile(rf"\b{_FORMAT}\b")
_OURS = re.compile(r"nvfp4|\bfp4\b|w4a4|w4a16")


def whole_formats(found: list[Clause]) -> Iterator[tuple[str, Clause]]:
    """Formats that the whole checkpoint is said to have, where NVFP4 is mentioned nowhere."""
    if any(_OURS.search(clause.text) for clause in found):
        return
    for clause in found:
        text = clause.text.replace("_", " ") if clause.heading else clause.text
        match = (_TITLE if clause.heading else _WHOLE).search(text)
        if match is not None:
            yield next(filter(None, match.groups())), clause


_W4A4, _W4A16 = re.compile(r"\bw4a4\b"), re.compile(r"\bw4a16\b|\bweights?[- ]only\b")
_HARDWARE = re.compile(r"\b(?:hopper|ampere|h100|h200|a100|marlin|fallback|falls|run|runs|served?|kernels?)\b")


def numerics(found: list[Clause]) -> tuple[str, Clause] | None:
    """("w4a4" or "w4a16", clause) where the card names one of the two and the other nowhere."""
    one = [clause for clause in found if _W4A4.search(clause.text)]
    two = [clause for clause in found if _W4A16.search(clause.text)]
    if bool(one) == bool(two):
        return None
    for clause in one or two:
        text = _W4A16.sub("", _W4A4.sub("", clause.text))
        if not _HARDWARE.search(text) and not _PASSED_OVER.search(text):
            return ("w4a4" if one else "w4a16"), clause
    return None
