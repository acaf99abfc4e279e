"""What devices could do: memory bandwidth and dense tensor-core rates, from their vendor's sheets.

One table, one entry for each device: entries are nothing but figures with their sources, and whoever adds or checks one
wants its neighbours beside it.

NVIDIA states rates of tensor cores with 2:4 sparsity, which no checkpoint here has: such figures are halved, and the
entry says so. Rates are at boost clock, which a device does not hold under load: they are upper bounds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Rate = Literal["bf16", "fp8", "fp4"]
"""Which tensor-core rate a piece of work runs at."""

GB, TERA = 10**9, 10**12


@dataclass(frozen=True, slots=True)
class Hardware:
    """One device.

    pattern: regular expression over the whole name that torch, vLLM and nvidia-smi report; a partition of a device
    (`... MIG 1g.10gb`) matches none. bandwidth: bytes per second, of the memory that holds the weights. bf16, fp8, fp4:
    dense floating-point operations per second of the tensor cores, FP32 accumulation; None where they lack the format.
    memory: bytes. unified: the memory is shared with the CPU. source: where the figures are from, and what was halved.
    """

    name: str
    pattern: str
    capability: tuple[int, int]
    bandwidth: float
    bf16: float
    fp8: float | None
    fp4: float | None
    memory: int
    unified: bool
    source: str

    def peak(self, rate: Rate) -> float:
        """Operations per second at a rate; where the tensor cores lack the format, weights are widened to BF16."""
        found = {"bf16": self.bf16, "fp8": self.fp8, "fp4": self.fp4}[rate]
        return self.bf16 if found is None else found


_DEVICES = (
    Hardware(
        name="Jetson AGX Thor",
        pattern=r"(NVIDIA )?(Jetson AGX )?Thor( Developer Kit)?",
        capability=(11, 0),
        bandwidth=273 * GB,
        bf16=258.75 * TERA,
        fp8=517.5 * TERA,
        fp4=1035 * TERA,
        memory=128 * GB,
        unified=True,
        source="Jetson Thor datasheet, T5000 at 130 W: 2070 TFLOPS FP4 sparse, halved; FP8 and BF16 at a half and a "
        "quarter of FP4, the tensor core's ratios; 128 GB LPDDR5X, 273 GB/s. The T4000 is slower",
    ),
    Hardware(
        name="DGX Spark",
        pattern=r"(NVIDIA )?GB10",
        capability=(12, 1),
        bandwidth=273 * GB,
        bf16=125 * TERA,
        fp8=250 * TERA,
        fp4=500 * TERA,
        memory=128 * GB,
        unified=True,
        source="DGX Spark datasheet: 1 PFLOPS FP4 sparse, halved; FP8 and BF16 at a half and a quarter of FP4, the "
        "tensor core's ratios; 128 GB LPDDR5X, 273 GB/s",
    ),
    Hardware(
        name="H100 SXM",
        pattern=r"(NVIDIA )?H100 (SXM5?|80GB HBM3)",
        capability=(9, 0),
        bandwidth=3350 * GB,
        bf16=989.5 * TERA,
        fp8=1979 * TERA,
        fp4=None,
        memory=80 * GB,
        unified=False,
        source="H100 datasheet, SXM: 1979 TFLOPS BF16 and 3958 FP8, both sparse, halved; 80 GB HBM3, 3.35 TB/s",
    ),
    Hardware(
        name="H100 NVL",
        pattern=r"(NVIDIA )?H100 NVL",
        capability=(9, 0),
        bandwidth=3900 * GB,
        bf16=835.5 * TERA,
        fp8=1670.5 * TERA,
        fp4=None,
        memory=94 * GB,
        unified=False,
        source="H100 datasheet, NVL: 1671 TFLOPS BF16 and 3341 FP8, both sparse, halved; 94 GB HBM3, 3.9 TB/s",
    ),
    Hardware(
        name="H100 PCIe",
        pattern=r"(NVIDIA )?H100 PCIe",
        capability=(9, 0),
        bandwidth=2039 * GB,
        bf16=756.5 * TERA,
        fp8=1513 * TERA,
        fp4=None,
        memory=80 * GB,
        unified=False,
        source="H100 datasheet of 2022, PCIe: 1513 TFLOPS BF16 and 3026 FP8, both sparse, halved; 80 GB HBM2e, 2039 "
        "GB/s (5120 bits at 3.186 Gbit/s; the sheet rounds it to 2 TB/s)",
    ),
    Hardware(
        name="H200",
        pattern=r"(NVIDIA )?H200( SXM5?)?",
        capability=(9, 0),
        bandwidth=4800 * GB,
        bf16=989.5 * TERA,
        fp8=1979 * TERA,
        fp4=None,
        memory=141 * GB,
        unified=False,
        source="H200 datasheet, SXM: 1979 TFLOPS BF16 and 3958 FP8, both sparse, halved; 141 GB HBM3e, 4.8 TB/s",
    ),
    Hardware(
        name="B200",
        pattern=r"(NVIDIA )?B200",
        capability=(10, 0),
        bandwidth=8000 * GB,
        bf16=2250 * TERA,
        fp8=4500 * TERA,
        fp4=9000 * TERA,
        memory=180 * GB,
        unified=False,
        source="Blackwell datasheet, HGX B200, each GPU: 4.5 PFLOPS BF16, 9 FP8, 18 FP4, all sparse, halved; 180 GB "
        "HBM3e; 8 TB/s of the DGX B200 datasheet (64 TB/s for eight), where that of HGX says 7.7",
    ),
    Hardware(
        name="RTX PRO 6000 Blackwell",
        pattern=r"(NVIDIA )?RTX PRO 6000 Blackwell( (Max-Q )?Workstation Edition)?",
        capability=(12, 0),
        bandwidth=1792 * GB,
        bf16=503.8 * TERA,
        fp8=1007.6 * TERA,
        fp4=2015.2 * TERA,
        memory=96 * GB,
        unified=False,
        source="RTX PRO 6000 datasheet, Workstation Edition: 4000 TOPS FP4 sparse: 4030.4 at 188 SMs and 2.617 "
        "GHz; halved; FP8 and BF16 at a half and a quarter; 96 GB GDDR7, 1792 GB/s. Max-Q: same memory, less clock",
    ),
    Hardware(
        name="RTX PRO 6000 Blackwell Server",
        pattern=r"(NVIDIA )?RTX PRO 6000 Blackwell Server Edition",
        capability=(12, 0),
        bandwidth=1597 * GB,
        bf16=503.8 * TERA,
        fp8=1007.6 * TERA,
        fp4=2015.2 * TERA,
        memory=96 * GB,
        unified=False,
        source="RTX PRO 6000 Server Edition datasheet: 4 PFLOPS FP4 sparse; rates as of the Workstation Edition; 96 GB "
        "GDDR7, 1597 GB/s",
    ),
)  # fmt: skip

DEVICES: Mapping[str, Hardware] = MappingProxyType({device.name: device for device in _DEVICES})
"""The known devices by name."""


def hardware_named(reported: str) -> Hardware | None:
    """The entry for a device under the name that torch, vLLM or nvidia-smi report, such as `NVIDIA H100 80GB HBM3`.

    None for every other device: a part of a GPU (MIG), a sibling of another speed, a CPU. Nothing is guessed from
    likeness, since a roofline of the wrong device is worse than none.
    """
    name = reported.strip()
    return next((device for device in _DEVICES if re.fullmatch(device.pattern, name, re.IGNORECASE)), None)
