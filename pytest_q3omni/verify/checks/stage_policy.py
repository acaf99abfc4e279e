"""What must stay unpacked is unpacked: towers, routers, lm_head, code predictor, code2wav.

The reasons are in `omni/stages`. A public NVFP4 Qwen3-Omni has audio tower and vision packed while its card says BF16
(vllm-omni#1854); all-stage NVFP4 is known to garble speech; vLLM builds audio tower and routers without a quantization
config and cannot load them packed. lm_head is packed where every Linear is, and loads then. A dense MLP is left out
only because no released model has one; vLLM can load it packed, so a foreign packer's is a warning.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject, part_of

_UNTRIED = "dense MLP"
_SERVED = "lm_head"  # packed where everything is: vLLM 0.24 to 0.33 load plain NVFP4 in no other way


def _find(subject: Subject) -> Iterator[Fault]:
    fp8 = [(module, stored.weight, "FP8") for module, stored in subject.fp8.items() if subject.sound(module)]
    everything = subject.claim is not None and not subject.claim.by_layer
    packed = [(packed.module, packed.codes, "packed") for packed in subject.sound_packed()]
    for module, where, how in (*packed, *fp8):
        stage, part = part_of(module)
        if part is not None and part.keep:
            what = f"the {stage}'s {part.name}" if part.name != "everything" else f"a layer of the {stage}"
            yield Fault(
                where,
                f"{what} is {how}",
                f"unpacked: {part.keep}",
                "pack again with a recipe that leaves it out, or put the source's BF16 tensor back",
                "warning" if part.name == _UNTRIED or (part.name == _SERVED and everything) else "error",
            )


CHECK = Check("stage-policy", "consistent", __doc__, _find, after=("declared-storage",))
