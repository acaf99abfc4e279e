"""Every layer that `quantized_layers` lists exists.

vLLM looks layers up by name and ignores entries that fit none: a list with a wrong prefix declares nothing, and the
packed layers it meant are built for BF16.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.omni.naming import SortedNames
from pytest_q3omni.verify.checks._protocol import CONFIG_JSON, Check, Fault
from pytest_q3omni.verify.claim import parents
from pytest_q3omni.verify.subject import Subject

_PLACE = f"{CONFIG_JSON}.quantization_config.quantized_layers"
_PREFIXES = ("thinker.", "talker.", "thinker.model.", "talker.model.")


def _find(subject: Subject) -> Iterator[Fault]:
    if subject.claim is None or not subject.implied:
        return
    modules = [linear.module for linear in subject.linears]
    known, by_name = {parent for module in modules for parent in parents(module)}, SortedNames(modules)
    for name in subject.claim.declared.modules:
        stored = name not in known and subject.sorted_entries.within(name)
        if name in known or stored or not subject.sound(f"{_PLACE}.{name}"):
            continue  # stored, but not of this config: then it is the config that is wrong
        meant = next((prefix + name for prefix in _PREFIXES if prefix + name in known), None)
        fix = f"write '{meant}'" if meant else "correct the name, or take it out"
        blamed = () if meant is None else (meant, *by_name.within(meant))
        yield Fault(
            f"{_PLACE}.{name}",
            "no layer of this model has that name",
            "names of this model's Linears",
            fix,
            blames=blamed,
        )


CHECK = Check("quantized-layers", "consistent", __doc__, _find, after=("declaration",))
