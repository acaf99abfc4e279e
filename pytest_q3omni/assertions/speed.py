"""Is the quantized checkpoint faster, and smaller in memory? Decided by repeated runs, never by a lucky one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Protocol

from pytest_q3omni.assertions._arguments import checked_bound
from pytest_q3omni.assertions.outcome import fail
from pytest_q3omni.errors import InvalidRequest
from pytest_q3omni.records import Measurement
from pytest_q3omni.serve.throughput import ROUNDS, Spread, spread

_SLOWER = (
    "look at what computes: eager mode costs more than any format gains, a kernel fallback or a build without this "
    "architecture most of it; `q3omni doctor` names them"
)
_MORE = "measure more rounds, on a machine that does nothing else"
_LARGER = (
    "`q3omni verify` says whether the checkpoint is packed as planned; an engine that unpacks weights when it loads "
    "them needs their BF16 size, `q3omni doctor` names the kernels"
)


class HasFigures(Protocol):
    """What repeated rounds gave, `serve.throughput.Spread` for one."""

    @property
    def figures(self) -> Sequence[float]: ...


class HasWeights(Protocol):
    """A loaded engine, `engines.serving.Loaded` for one."""

    @property
    def weight_bytes(self) -> int: ...


def assert_speedup(
    quantized: Sequence[float] | HasFigures,
    original: Sequence[float] | HasFigures,
    *,
    at_least: float,
    what: str = "decode",
) -> Measurement:
    """Assert that `quantized` is at least `at_least` times as fast as `original`, both measured in the same session.

    quantized, original: rates, tokens per second say, one for each round; at least five rounds each. The value is the
    ratio of the medians. It has to hold even with the lower quartile of the one over the upper quartile of the other;
    where it holds with the medians alone, the runs do not tell, which is an error, too. what: for the message.

    Raises:
        AssertionError: it is slower, or the rounds are spread too wide to say.
        InvalidRequest: fewer than five rounds, or rates that are none.
    """
    __tracebackhide__ = True
    bound = checked_bound("at_least", at_least, most=math.inf, why="a factor: 1.5 for half as fast again", fix=_FACTOR)
    ours, theirs = _rounds("quantized", quantized), _rounds("original", original)
    ratio, surely, perhaps = ours.median / theirs.median, ours.low / theirs.high, ours.high / theirs.low
    details = {"quantized": ours.figures, "original": theirs.figures, "low": surely, "high": perhaps}
    measured = Measurement(f"speedup of {what}", ratio, bound, "x", details)
    if not surely >= bound:
        shown = f"{ratio:.2f}x ({ours.median:,.4g} against {theirs.median:,.4g} per second, medians), at_least is "
        shown += f"{bound:.2f}x"
        apart = f"between the quartiles of {len(ours.figures)} and {len(theirs.figures)} rounds lie {surely:.2f}x to "
        apart += f"{perhaps:.2f}x"
        told = f"slower: {apart}. Fix: {_SLOWER}" if ratio < bound else f"the runs do not tell: {apart}. Fix: {_MORE}"
        fail("assert_speedup", what, shown, [told])
    return measured


def assert_memory_ratio(quantized: int | HasWeights, original: int | HasWeights, *, at_least: float) -> Measurement:
    """Assert that the original's weights take at least `at_least` times the memory that the quantized ones take.

    quantized, original: bytes that an engine says its weights take, or what its `load` gave.

    Raises:
        AssertionError: they take more.
        InvalidRequest: numbers of bytes that are none, or a bound above what 4 bits can reach.
    """
    __tracebackhide__ = True
    why = "NVFP4 has 4.5 bits a weight, so no more than 3.56 can be reached"
    bound = checked_bound("at_least", at_least, most=16 / 4.5, why=why)
    ours, theirs = _bytes("quantized", quantized), _bytes("original", original)
    ratio = theirs / ours
    measured = Measurement("memory ratio", ratio, bound, "x", {"quantized": ours, "original": theirs})
    if not ratio >= bound:
        shown = f"{ratio:.2f}x ({ours / 2**30:.2f} GiB against {theirs / 2**30:.2f} GiB), at_least is {bound:.2f}x"
        fail("assert_memory_ratio", "weights in memory", shown, [f"larger than asked. Fix: {_LARGER}"])
    return measured


_FACTOR = "measure first: docs/how-to/measure-serving.md says how"


def _rounds(name: str, given: Sequence[float] | HasFigures) -> Spread:
    rounds: object = given.figures if hasattr(given, "figures") else given
    figures: tuple[object, ...] = tuple(rounds) if isinstance(rounds, Iterable) else (rounds,)
    numbers = [float(one) for one in figures if isinstance(one, Real) and not isinstance(one, bool)]
    if len(numbers) != len(figures) or not all(0 < one < math.inf for one in numbers):
        raise InvalidRequest(f"{name} has rates that are none: {figures!r:.80}", expected="numbers above 0", fix=_MORE)
    if len(numbers) < ROUNDS:
        raise InvalidRequest(f"{name} has {len(numbers)} rounds", expected=f"at least {ROUNDS}", fix=_MORE)
    return spread(numbers)


def _bytes(name: str, given: int | HasWeights) -> int:
    number = getattr(given, "weight_bytes", given)
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise InvalidRequest(f"{name}={number!r}", expected="bytes", fix="take what the engine's load() gives")
    return number
