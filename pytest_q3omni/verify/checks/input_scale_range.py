"""Input scales are of the size that the layer's inputs can have.

A scale that is 100 times off passes everything on Hopper, where Marlin is weight-only, and breaks on Thor and
Blackwell. Norms and weights bound what an input can be (`verify/activations.py`):

- beyond 8 times such a bound (2 times where the bound is wide already) an amax is impossible, whatever the data was;
- an estimate is no bound, so it convicts only together with the peers: 32 times off from the same input in every other
  layer, after division by each layer's own estimate, *and* below the estimate, which thousands of tokens always exceed.
  Far off its peers and above the estimate an input may well be, in layers with massive activations: a warning.

Where the calibration record has the input, the `recorded-input-scales` check compares exactly, and only the first
rule applies here: a record can be wrong, too.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from pytest_q3omni.nvfp4.format import SCALE_DIVISOR
from pytest_q3omni.omni.naming import input_site
from pytest_q3omni.records import Severity
from pytest_q3omni.verify.activations import Activations, Range, layer_of, sampled
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Packed, Subject

_MARGIN, _WIDE_MARGIN = 8.0, 2.0
_APART = 5.0  # log2 of 32
_SAMPLE = 4  # experts whose weights are looked at; all of them where these convict
_FIX = "calibrate again: an input scale is the input's amax / 2688 (in another unit it is off by 6, 448 or 2688)"


class _Site(NamedTuple):
    """One input: its name in a record, its amax, the range it may have, and the modules that read it with one scale."""

    name: str
    amax: float
    range: Range
    modules: list[Packed]

    @property
    def role(self) -> tuple[str, str]:
        """Stage and projection: the inputs to compare with."""
        return self.name.partition(".")[0], self.name.rpartition(".")[2]

    @property
    def relative(self) -> float:
        """log2 of amax over what is typical."""
        return math.log2(self.amax / self.range.typical)


def _find(subject: Subject) -> Iterator[Fault]:
    sites = list(_sites(subject))
    for site in sites:
        expected = _possible(site)
        if expected:
            yield _fault(site, expected)
    yield from _among_peers([site for site in sites if _comparable(subject, site)])


def _sites(subject: Subject) -> Iterator[_Site]:
    """Inputs of W4A4 layers with a known range, but for those whose scale is not the record's: the record judges
    them."""
    readers: dict[tuple[str, float], list[Packed]] = defaultdict(list)
    for packed in subject.sound_packed():
        scale = subject.input_scale(packed)
        if scale is not None and subject.numerics(packed) == "w4a4" and layer_of(packed.module):
            readers[input_site(packed.module), scale * SCALE_DIVISOR].append(packed)
    recorded = {} if subject.record is None else subject.record.input_amax
    activations = Activations(subject)
    left = activations.prefetch(chain.from_iterable(sampled(modules, _SAMPLE) for modules in readers.values()))
    if left:
        subject.note("consistent", f"ranges of inputs that need {left:,} more block scales are not known")
    for (name, amax), modules in readers.items():
        if name in recorded and not math.isclose(recorded[name], amax, rel_tol=1e-6):
            continue
        found = activations.widest(sampled(modules, _SAMPLE))
        if found is not None and _possible(_Site(name, amax, found, modules)):
            found = None if activations.prefetch(modules) else activations.widest(modules)
        if found is not None:
            yield _Site(name, amax, found, modules)


def _possible(site: _Site) -> str:
    """What the amax would have to be, "" where it is possible."""
    if site.amax > (_MARGIN if site.range.exact else _WIDE_MARGIN) * site.range.upper:
        return f"an amax of at most {site.range.upper:.4g}: norm and weights allow no more"
    if site.range.exact and site.amax < site.range.typical / _MARGIN:
        return f"an amax of at least {site.range.typical:.4g}: every normalised token reaches it"
    return ""


def _comparable(subject: Subject, site: _Site) -> bool:
    recorded = subject.record is not None and site.name in subject.record.input_amax
    return not recorded and site.range.typical > 0 and subject.sound(site.modules[0].module)


def _among_peers(sites: list[_Site]) -> Iterator[Fault]:
    roles: dict[tuple[str, str], list[_Site]] = defaultdict(list)
    for site in sites:
        roles[site.role].append(site)
    for role in roles.values():
        for site in role:
            others = [site.relative - other.relative for other in role if layer_of(other.name) != layer_of(site.name)]
            nearest = min(others, key=abs, default=0.0)
            if abs(nearest) <= _APART:
                continue
            way = "larger" if nearest < 0 else "smaller"
            expected = f"an amax like the other layers': {2 ** abs(nearest):.0f} times {way} or more"
            if site.relative < 0:
                yield _fault(site, expected)
            elif len(others) > 1:
                yield _fault(site, expected, "warning")


def _fault(site: _Site, expected: str, severity: Severity = "error") -> Fault:
    first, more = site.modules[0], len(site.modules) - 1
    others = f" (as in {more} more layers with this input)" if more else ""
    found = f"{site.amax / SCALE_DIVISOR:.6g}{others}: an input amax of {site.amax:.4g}"
    return Fault(first.input_scale, found, expected, _FIX, severity, tuple(packed.module for packed in site.modules))


CHECK = Check("input-scale-range", "consistent", __doc__, _find, after=("shared-input-scales",), reads="scales")
