"""Every packed weight has its scales: for blocks, for the tensor and, in W4A4, for its input.

vLLM accepts a checkpoint without them: missing dense scales become NaN, missing expert scales are whatever was in
memory, a missing input scale becomes 1/0 on some prompts (vllm#45212). With one expert's scale gone the tiny model
still answered 128 of 128 prompts, so no accuracy test finds it either.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.omni.naming import experts_module
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Packed, Subject

_CALIBRATE = "calibrate with conversations that reach this layer, then pack again"


def _find(subject: Subject) -> Iterator[Fault]:
    if subject.partial:
        return
    for packed in subject.sound_packed():
        for name, expected, fix in _wanted(subject, packed):
            if name not in subject.entries:
                consequence = "uninitialised memory" if experts_module(packed.module) else "NaN or zero"
                found = f"missing, though {packed.codes} is packed; vLLM loads it as {consequence}"
                yield Fault(name, found, expected, fix)
                break
    for fp8 in subject.fp8.values():
        for name in (fp8.weight_scale, fp8.input_scale):
            if name and subject.sound(fp8.module) and name not in subject.entries:
                found, expected = f"missing, though {fp8.weight} is FP8", "a positive scale beside the weight"
                yield Fault(name, found, expected, "quantize this module again")
                break


def _wanted(subject: Subject, packed: Packed) -> Iterator[tuple[str, str, str]]:
    out, inner = packed.shape
    yield packed.block_scale, f"F8_E4M3 [{out}, {inner // 16}]", "pack this module again"
    yield packed.global_scale, "one F32", "pack this module again"
    if subject.numerics(packed) == "w4a4":
        yield packed.input_scale, "one F32, since the module is declared W4A4", _CALIBRATE


CHECK = Check("scales-present", "consistent", __doc__, _find, after=("fused-groups",))
