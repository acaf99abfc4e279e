"""The model that the engine loaded answers, and not nonsense: half of its answers begin as the original's do.

Asked with `--depth answers`: text, pictures and sound, greedy, of both models in the same engine. The bound is low on
purpose: a sound NVFP4 model is far above it, one with its scales mixed up far below. How closely the answers agree is
another question, with limits that are measured (`agrees`, `q3omni parity`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from pytest_q3omni.engines.engine_report import Reply
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject

LEAST = 0.5
"""Share of answers, of each modality, whose first token is the original's."""
_SHOWN = 40


def _find(subject: Subject) -> Iterator[Fault]:
    report = subject.engine
    if report is None or not report.replies:
        return
    modalities: dict[str, list[Reply]] = defaultdict(list)
    for reply in report.replies:
        modalities[reply.modality].append(reply)
    for modality, replies in modalities.items():
        begun = sum(reply.original[:1] == reply.quantized[:1] for reply in replies)
        if begun < LEAST * len(replies):
            yield _nonsense(modality, replies, begun, report.name)
    same = ", ".join(f"{modality} {_same(replies)}/{len(replies)}" for modality, replies in modalities.items())
    subject.note("loads", f"answers equal to the original's, token by token: {same}")


def _same(replies: list[Reply]) -> int:
    return sum(reply.original == reply.quantized for reply in replies)


def _nonsense(modality: str, replies: list[Reply], begun: int, engine: str) -> Fault:
    other = next(reply for reply in replies if reply.original[:1] != reply.quantized[:1])
    first, second = (repr(text[:_SHOWN]) for text in other.texts)
    return Fault(
        f"{modality} answers",
        f"{begun} of {len(replies)} begin as the original's in {engine}; {other.question}: {second} instead of {first}",
        f"at least {LEAST:.0%}",
        "`q3omni verify --source` names weights that are not the source's; then `q3omni parity`",
    )


CHECK = Check("loader-answers", "loads", __doc__, _find, after=("loader-coverage", "loader-methods"), needs="answers")
