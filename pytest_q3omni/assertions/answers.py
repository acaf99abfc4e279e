"""Can it be asked, and does it answer like its original?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from pytest_q3omni.assertions._arguments import AnyCheckpoint, checked_bound, device_of, path_of
from pytest_q3omni.assertions.outcome import OPEN, fail, hear
from pytest_q3omni.errors import InvalidRequest, NotChatML
from pytest_q3omni.records import Measurement, Parity

if TYPE_CHECKING:
    from pytest_q3omni.omni.conversations import Conversation

_TENSORS = "Fix: `q3omni verify QUANTIZED --source ORIGINAL` names tensors that are not what packing gives"
_TOO_LOW = "Fix: the bound is below what the format itself costs: raise it, or pack fewer layers"
_OWN = "leave it out, and the limits are measured; `q3omni parity` shows what plain NVFP4 costs"


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
        fail("assert_chatml", "", "speech needs role markers", [str(error)])
    return Measurement("turns", sum(turns.values()), None, "turns", turns)


def assert_output_parity(
    original: AnyCheckpoint,
    quantized: AnyCheckpoint,
    *,
    conversations: str | PathLike[str] | Sequence[Conversation] | None = None,
    numerics: str | None = None,
    max_mean_kl: float | None = None,
    min_top1: float | None = None,
) -> Measurement:
    """Assert that the checkpoint answers like its original: text, image, audio and speech, in each of its numerics.

    Without `max_mean_kl` the limit of each row is four times what plain NVFP4 of the same layers costs
    (docs/parity.md), and too few answer tokens to say so are a failure, too. `conversations` as in `api.parity`; the
    built-in tiny model brings its own. max_mean_kl: nats per answer token. min_top1: share of tokens, 0 to 1.
    The value is the largest mean KL; `details["rows"]` has each row's, `details["parity"]` all that was measured.

    Raises:
        AssertionError: names the modality, the number, the limit; and input scales that fit no input, by module.
        InvalidRequest: a bound that cannot be one, no conversations, numerics that the checkpoint has not.
        MissingDependency: the `quantize` extra is not installed.
    """
    __tracebackhide__ = True
    from pytest_q3omni import api

    most = _own_bound("max_mean_kl", max_mean_kl, math.inf, "nats")
    least = _own_bound("min_top1", min_top1, 1.0, "a share: write 0.95 for 95 %")
    found = api.parity(
        path_of(original),
        path_of(quantized),
        conversations=conversations,
        numerics=numerics,
        device=device_of(original),
    )
    hear(found)
    worst = max(found.agreements, key=lambda row: row.divergence.mean / (most or row.limit or 1.0))
    bound = worst.limit if most is None else most
    details = {"rows": {f"{row.modality} {row.numerics}": row for row in found.agreements}, "parity": found}
    measured = Measurement("mean KL", worst.divergence.mean, bound, "nats", details)
    findings = _apart(found, most, least)
    if findings:
        shown = f"worst row: {worst.where}, mean KL {measured.value:.4g} nats, "
        shown += f"{'its limit' if most is None else 'max_mean_kl'} is {bound:.4g}"
        if least is not None:
            lowest = min(row.divergence.top1 for row in found.agreements)
            shown += f"; worst top-1 agreement {lowest:.2%}, min_top1 is {least:.2%}"
        fail("assert_output_parity", path_of(quantized), shown, findings)
    return measured


def _own_bound(name: str, value: float | None, most: float, why: str) -> float | None:
    return None if value is None else checked_bound(name, value, most=most, why=why, fix=_OWN)


def _apart(parity: Parity, most: float | None, least: float | None) -> list[str]:
    """Why the answers do not agree: by the rows' own limits, or by the caller's."""
    short = {row.where for row in parity.agreements if row.state == OPEN}
    own = [found for found in parity.findings if found.severity == "error" or found.where in short]
    findings = [str(found) for found in own if most is None or found.check != "answers"]
    for row in parity.agreements:
        seen, where = row.divergence, row.where
        if most is not None and not seen.mean <= most:
            remedy = _TOO_LOW if most < row.plain.mean else _TENSORS
            findings.append(
                f"{where}: mean KL {seen.mean:.4g} ± {seen.error:.2g} nats over {seen.tokens:,} tokens; expected "
                f"at most {most:g} (plain NVFP4 costs {row.plain.mean:.4g}). {remedy}"
            )
        if least is not None and not seen.top1 >= least:
            findings.append(
                f"{where}: top-1 agreement {seen.top1:.2%} over {seen.tokens:,} tokens; expected at least {least:.2%} "
                f"(plain NVFP4 has {row.plain.top1:.2%}). {_TENSORS}"
            )
    return findings
