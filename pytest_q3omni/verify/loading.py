"""What the checks of `loads` need to know: the layers an engine should quantize, and the files' side of the trap table.

An engine fuses layers: q/k/v are one, gate/up are one, all experts of a layer are one. What it chose is compared by
those, under the checkpoint's names.
"""

from __future__ import annotations

from collections.abc import Mapping

from pytest_q3omni.engines.compatibility import Layers
from pytest_q3omni.omni.naming import experts_module, fused_group, in_layer
from pytest_q3omni.omni.stages import stage_of
from pytest_q3omni.records import Scheme
from pytest_q3omni.verify.subject import Subject, is_linear

UNSERVED = ("talker", "code_predictor", "code2wav")
"""Stages whose weights vLLM skips: it loads the thinker."""


def unit_of(module: str) -> str:
    """The layer of the engine that a module is part of."""
    if experts := experts_module(module):
        return experts
    return fused_group(module) if in_layer(module) is not None else module


def stored_schemes(subject: Subject) -> Mapping[str, Scheme]:
    """Module -> how it is stored, of every quantized Linear in a stage that vLLM loads."""
    schemes: dict[str, Scheme] = {}
    for module, packed in subject.packed.items():
        schemes[module] = "w4a4" if subject.numerics(packed) == "w4a4" else "w4a16"
    for module, fp8 in subject.fp8.items():
        schemes[module] = "fp8" if fp8.input_scale else "fp8_dynamic"
    return {module: scheme for module, scheme in schemes.items() if served(module)}


def served(module: str) -> bool:
    """False for what vLLM skips."""
    stage = stage_of(f"{module}.weight")
    return stage is None or stage.name not in UNSERVED


def unserved_stages(subject: Subject) -> list[str]:
    """The checkpoint's stages that vLLM skips."""
    found = {stage.name for stage in map(stage_of, subject.entries) if stage is not None}
    return [name for name in UNSERVED if name in found]


def layers(subject: Subject) -> Layers:
    """The checkpoint as the trap table looks at it."""
    schemes = stored_schemes(subject)
    linears = (tensor for tensor in subject.implied.values() if is_linear(tensor))
    shapes = {tensor.name.removesuffix(".weight"): (tensor.shape[0], tensor.shape[1]) for tensor in linears}
    stored = {module: (schemes.get(module), shape) for module, shape in shapes.items()}
    return Layers(subject.block or {}, stored, tuple(subject.entries))
