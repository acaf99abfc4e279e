"""The ignore list leaves the packed layers alone.

vLLM 0.32 takes an entry as a *substring* (see `claim.py`): `thinker.model.layers.1` also covers layers 10 to 19, and a
packed layer that an entry covers is built for BF16 and cannot be loaded. Entries that are missing are found elsewhere
(declared packed, stored BF16); under MIXED_PRECISION they are harmless, which is said as a warning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache

from pytest_q3omni.verify.checks._protocol import CONFIG_JSON, Check, Fault
from pytest_q3omni.verify.claim import Claim
from pytest_q3omni.verify.subject import Subject, is_linear, part_of

_PLACE = f"{CONFIG_JSON}.quantization_config.ignore"
_LISTED = ("visual", "audio tower", "router", "lm_head")
_TOLD = 100  # entries that match nothing, beyond which a list is another model's and one warning is enough


def _find(subject: Subject) -> Iterator[Fault]:
    claim = subject.claim
    if claim is None or not claim.usable or not subject.implied:
        return
    others = cache(lambda: _others(subject, claim))  # built for the first entry that needs it, and once: it is large
    idle = 0
    for entry in claim.entries:
        covered = dict.fromkeys(claim.covered(entry))
        packed = [module for module in covered if module in subject.packed and module not in subject.broken]
        if packed:
            yield Fault(
                f"{_PLACE} '{entry}'",
                f"covers {len(packed)} packed layers, first {packed[0]}",
                "entries that no packed layer's name contains or matches",
                blames=tuple(packed),
                fix="name what is meant in full (a trailing dot ends a number: `layers.1.`), or pack without it",
            )
        elif not covered and idle < _TOLD and not any(others().covered(entry)):
            idle += 1
            yield Fault(
                f"{_PLACE} '{entry}'",
                "matches no layer of this model",
                "names of layers that stay unquantized",
                "correct or drop it; it changes nothing here",
                "warning",
            )
    if claim.by_layer:
        yield from _missing(subject, claim)


def _others(subject: Subject, claim: Claim) -> Claim:
    """The same claim about the modules that are no Linears, such as embeddings: ModelOpt lists them, too."""
    others = {subject.module_of(name): tensor for name, tensor in subject.implied.items() if not is_linear(tensor)}
    return Claim(claim.declared, others)


def _missing(subject: Subject, claim: Claim) -> Iterator[Fault]:
    """Families of unquantized thinker Linears that the list of a by-layer declaration does not name."""
    unlisted = (x.module for x in subject.linears if x.form != "packed" and not claim.ignores(x.module))
    families = Counter(part.name for stage, part in map(part_of, unlisted) if stage == "thinker" and part is not None)
    for family, count in families.items():
        if family not in _LISTED:
            continue
        yield Fault(
            _PLACE,
            f"{count} Linears of the thinker's {family} are unquantized and not listed",
            "harmless with listed layers; needed by loaders that quantize by default",
            f"add the thinker's {family} to the list",
            "warning",
        )


CHECK = Check("ignore-list", "consistent", __doc__, _find, after=("quantized-layers",))
