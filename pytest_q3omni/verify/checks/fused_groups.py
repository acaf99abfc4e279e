"""Layers that engines fuse are stored alike: q/k/v, gate/up, and all experts of a layer.

One fused matrix has one numerics. vLLM raises a ValueError for q/k/v; for experts the first match decides for all of
them, silently.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from pytest_q3omni.omni.naming import experts_module, fused_group
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject, is_linear


def _find(subject: Subject) -> Iterator[Fault]:
    units: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for tensor in subject.implied.values():
        module = tensor.name.removesuffix(".weight")
        if is_linear(tensor) and module not in subject.broken and subject.form(tensor) in ("packed", "plain"):
            units[experts_module(module) or fused_group(module)][_storage(subject, module)].append(tensor.name)
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


def _storage(subject: Subject, module: str) -> str:
    packed = subject.packed.get(module)
    return "BF16" if packed is None else f"NVFP4 {subject.numerics(packed).upper()}"


CHECK = Check("fused-groups", "consistent", __doc__, _find, after=("stage-policy",))
