"""Which NVFP4 kernels vLLM chooses by itself, by compute capability: read from its source, for machines without it.

Where vLLM is installed it is asked instead (`vllm_inside/doctor.py`). Read in 0.26.0 and 0.32.0:
`model_executor/kernels/linear` (`_POSSIBLE_NVFP4_KERNELS`, `init_nvfp4_linear_kernel`), and of
`model_executor/layers/fused_moe` the lists in `oracle/nvfp4.py` and what each kernel in `experts/` supports. The choice
depends on whether FlashInfer is installed: named first is the choice with it. Hopper's row was run (0.26.0, H100).
"""

from __future__ import annotations

from dataclasses import dataclass

READ_IN = "vLLM 0.26 to 0.32"


@dataclass(frozen=True)
class KernelChoice:
    """For capabilities from `first` up to and without `end`: the kernels of linear layers and of experts."""

    first: tuple[int, int]
    end: tuple[int, int]
    w4a4_linear: str
    w4a4_experts: str
    w4a16_linear: str
    w4a16_experts: str


_MARLIN = ("MarlinNvFp4LinearKernel", "MARLIN")
_HOPPER = tuple(f"{name}, in 0.32 Humming's where that is installed" for name in _MARLIN)
_CUTLASS = "FlashInferCutlassNvFp4LinearKernel, without FlashInfer CutlassNvFp4LinearKernel"
_DATACENTRE_W4A16 = "MarlinNvFp4LinearKernel, in 0.32 with FlashInfer its CuTe-DSL kernel"

CHOICES = (
    KernelChoice((7, 5), (9, 0), *_MARLIN, *_MARLIN),
    KernelChoice((9, 0), (9, 1), *_HOPPER, *_HOPPER),
    KernelChoice(
        (10, 0), (11, 0),
        "FlashInferCuteDslNvFp4LinearKernel, without FlashInfer CutlassNvFp4LinearKernel",
        "FLASHINFER_TRTLLM, without FlashInfer VLLM_CUTLASS", _DATACENTRE_W4A16, "MARLIN",
    ),
    # flashinfer-ai/flashinfer#3134 keeps FlashInfer's experts off 11.0
    KernelChoice((11, 0), (12, 0), _CUTLASS, "VLLM_CUTLASS", *_MARLIN),
    KernelChoice((12, 0), (13, 0), _CUTLASS, "FLASHINFER_CUTLASS, without FlashInfer VLLM_CUTLASS", *_MARLIN),
)  # fmt: skip
NEWEST = CHOICES[-1].end
"""The first capability that was not there to be read about."""


def expected_kernels(capability: tuple[int, int]) -> dict[str, str]:
    """What vLLM would choose, keyed as `VLLMBuild.kernels`; empty for capabilities that have no NVFP4 kernel."""
    row = next((row for row in CHOICES if row.first <= capability < row.end), None)
    if row is None:
        return {}
    return {
        "w4a4 linear": row.w4a4_linear,
        "w4a4 experts": row.w4a4_experts,
        "w4a16 linear": row.w4a16_linear,
        "w4a16 experts": row.w4a16_experts,
    }
