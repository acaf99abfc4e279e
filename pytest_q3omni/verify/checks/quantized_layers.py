"""Every layer that `quantized_layers` lists exists.

vLLM looks layers up by name and ignores entries that fit none: a list with a wrong prefix declares nothing, and the
packed layers it meant are built for BF16.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.verify.checks._protocol import CONFIG_JSON, Check, Fault
from pytest_q3omni.verify.claim import parents
from pytest_q3omni.verify.subject import Subject, is_linear

_PLACE = f"{CONFIG_JSON}.quantization_config.quantized_layers"
_PREFIXES = ("thinker.", "talker.", "thinker.model.", "talker.model.")


def _find(subject: Subject) -> Iterator[Fault]:
    if subject.claim is None or not subject.implied:
        return
    modules = [name.removesuffix(".weight") for name, tensor in subject.implied.items() if is_linear(tensor)]
    known = {parent for module in modules for parent in parents(module)}
    for name in subject.claim.declared.modules:
        stored = any(tensor.startswith(f"{name}.") for tensor in subject.entries) if name not in known else False
        if name in known or stored or not subject.sound(f"{_PLACE}.{name}"):
            continue  # stored, but not of this config: then it is the config that is wrong
        meant = next((prefix + name for prefix in _PREFIXES if prefix + name in known), None)
        fix = f"write '{meant}'" if meant else "correct the name, or take it out"
        blamed = tuple(module for module in modules if meant and (module == meant or module.startswith(f"{meant}.")))
        yield Fault(
            f"{_PLACE}.{name}",
            "no layer of this model has that name",
            "names of this model's Linears",
            fix,
            blames=blamed,
        )


CHECK = Check("quantized-layers", "consistent", __doc__, _find, after=("declaration",))
