"""Input scales are of the size that the layer's inputs can have.

A scale that is 100 times off passes everything on Hopper, where Marlin is weight-only, and breaks on Thor and Blackwell.
Norms and weights bound what an input can be (`verify/activations.py`):

- beyond 8 times such a bound (2 times where the bound is wide already) an amax is impossible, whatever the data was;
- an estimate is no bound, so it convicts only together with the peers: 32 times off from the same input in every other
  layer, after division by each layer's own estimate, *and* below an eighth of the estimate. Far above its peers an input
  may well be, in layers with massive activations: that is a warning.

Where the calibration record has the input, the `recorded-input-scales` check compares exactly, and only the first rule
applies here: a record can be wrong, too.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from pytest_q3omni.nvfp4.format import SCALE_DIVISOR
from pytest_q3omni.omni.naming import input_site
from pytest_q3omni.verify.activations import Activations, Range, layer_of, sampled
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Packed, Subject

_MARGIN, _WIDE_MARGIN = 8.0, 2.0
_APART = 5.0  # log2 of 32
_SAMPLE = 4  # experts whose weights are looked at; all of them where these convict
_FIX = "calibrate again: an input scale is the input's amax / 2688 (in another unit it is off by 6, 448 or 2688)"


@dataclass
class _Site:
    """One input: the modules that read it with one scale, its amax, and the range it may have."""

    name: str
    amax: float
    modules: list[Packed] = field(default_factory=list)
    range: Range | None = None

    @property
    def role(self) -> tuple[str, str]:
        """Stage and projection: the inputs to compare with."""
        return self.name.partition(".")[0], self.name.rpartition(".")[2]

    @property
    def relative(self) -> float:
        """log2 of amax over what is typical."""
        assert self.range is not None
        return math.log2(self.amax / self.range.typical)


def _find(subject: Subject) -> Iterator[Fault]:
    sites, activations = _sites(subject), Activations(subject)
    for site in sites:
        site.range = _widest(activations, list(sampled(site.modules, _SAMPLE)))
        if site.range is not None and _impossible(site):
            site.range = _widest(activations, site.modules)
        if site.range is not None and (told := _impossible(site)):
            yield _fault(site, told)
    known = [site for site in sites if site.range and site.range.typical > 0 and subject.sound(site.modules[0].module)]
    yield from _among_peers([site for site in known if not _recorded(subject, site)])


def _sites(subject: Subject) -> list[_Site]:
    """Inputs of W4A4 layers, but for those whose scale is not the record's: they are judged by the record."""
    sites: dict[tuple[str, float], _Site] = {}
    for packed in subject.sound_packed():
        scale = subject.scalar(packed.input_scale)
        if scale is None or subject.numerics(packed) != "w4a4" or not layer_of(packed.module):
            continue
        site = sites.setdefault((input_site(packed.module), scale), _Site(input_site(packed.module), scale * SCALE_DIVISOR))
        site.modules.append(packed)
    return [site for site in sites.values() if not _contradicted(subject, site)]


def _recorded(subject: Subject, site: _Site) -> bool:
    return subject.record is not None and site.name in subject.record.input_amax


def _contradicted(subject: Subject, site: _Site) -> bool:
    if subject.record is None or site.name not in subject.record.input_amax:
        return False
    return not math.isclose(subject.record.input_amax[site.name], site.amax, rel_tol=1e-6)


def _widest(activations: Activations, modules: list[Packed]) -> Range | None:
    """The range that covers those of all modules."""
    ranges = [found for found in map(activations.range_of, modules) if found is not None]
    if not ranges:
        return None
    return Range(min(r.typical for r in ranges), max(r.upper for r in ranges), all(r.exact for r in ranges))


def _impossible(site: _Site) -> str:
    assert site.range is not None
    margin = _MARGIN if site.range.exact else _WIDE_MARGIN
    if site.amax > margin * site.range.upper:
        return f"at most {site.range.upper:.4g}, which norm and weights allow at most"
    if site.range.exact and site.amax < site.range.typical / _MARGIN:
        return f"at least {site.range.typical:.4g}, which every normalised token reaches"
    return ""


def _among_peers(sites: list[_Site]) -> Iterator[Fault]:
    roles: dict[tuple[str, str], list[_Site]] = defaultdict(list)
    for site in sites:
        roles[site.role].append(site)
    for role in roles.values():
        for site in role:
            apart = [site.relative - other.relative for other in role if layer_of(other.name) != layer_of(site.name)]
            if not apart or min(map(abs, apart)) <= _APART:
                continue
            if site.relative < -3:
                nearest = min(apart, key=abs)
                yield _fault(site, f"as in the other layers, where it is {2**-nearest:.0f} times as large or more")
            elif len(apart) > 1 and min(apart) > 0:
                yield _fault(site, f"as in the other layers: it is {2 ** min(apart):.0f} times theirs or more", "warning")


def _fault(site: _Site, expected: str, severity: str = "error") -> Fault:
    first, more = site.modules[0], len(site.modules) - 1
    others = f" (and {more} more layers with this input)" if more else ""
    found = f"{site.amax / SCALE_DIVISOR:.6g}{others}, which means an input amax of {site.amax:.4g}"
    return Fault(first.input_scale, found, f"an amax of {expected}" if expected[0] != "a" or expected[:2] == "at" else expected,
                 _FIX, "warning" if severity == "warning" else "error",
                 blames=tuple(packed.module for packed in site.modules))  # fmt: skip


CHECK = Check("input-scale-range", "consistent", __doc__, _find, after=("shared-input-scales",))
