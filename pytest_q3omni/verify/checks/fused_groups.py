"""Layers that engines fuse are stored alike: q/k/v, gate/up, and all experts of a layer.

One fused matrix has one numerics. vLLM raises a ValueError for q/k/v; for experts the first match decides for all of
them, silently.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from pytest_q3omni.omni.naming import experts_module, fused_group
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Form, Subject


def _find(subject: Subject) -> Iterator[Fault]:
    units: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for module, weight, form in subject.linears:
        if form != "absent" and module not in subject.broken:
            unit = experts_module(module) or fused_group(module)
            units[unit][_storage(subject, module, form)].append(subject.place(weight))
    for unit, stored in units.items():
        if len(stored) > 1:
            rare = min(stored, key=lambda form: len(stored[form]))
            others = ", ".join(f"{len(names)} {form}" for form, names in stored.items() if form != rare)
            yield Fault(
                stored[rare][0],
                f"{rare}, the other members of {unit} are not: {others}",
                "one numerics per fused layer",
                "pack all members, or none",
                blames=tuple(name for names in stored.values() for name in names),
            )


def _storage(subject: Subject, module: str, form: Form) -> str:
    if form == "fp8":
        return "FP8" if subject.fp8[module].input_scale else "FP8 with dynamic inputs"
    return f"NVFP4 {subject.numerics(subject.packed[module]).upper()}" if form == "packed" else "BF16"


CHECK = Check("fused-groups", "consistent", __doc__, _find, after=("stage-policy",))
