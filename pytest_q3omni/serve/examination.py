"""What an examination of a machine is made of: the facts that were found out, and the rows that are made of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_q3omni.engines.cuda_code import Capability, Code
from pytest_q3omni.engines.machine import Device, Machine
from pytest_q3omni.engines.vllm_surroundings import ExpertShapes, TorchBuild, VLLMBuild
from pytest_q3omni.records import Numerics, State
from pytest_q3omni.serve.fit import Needs


@dataclass(frozen=True)
class Row:
    """One answer: what was asked, what was found, what that means, and what to do; no fix where none is due."""

    name: str
    state: State
    found: str
    meaning: str
    fix: str = ""


@dataclass(frozen=True)
class Surroundings:
    """All that was found out. torch: of this interpreter; vllm_torch: of vLLM's. vllm: None where there is none, and
    `no_vllm` says why, `vllm_named` whether the user named an interpreter.

    traps: (what an engine is known to do with the checkpoint, what to do about it); None where nobody asked.
    """

    machine: Machine
    devices: tuple[Device, ...]
    torch: TorchBuild
    needs: Needs
    shapes: ExpertShapes
    numerics: Numerics
    vllm: VLLMBuild | None = None
    vllm_torch: TorchBuild | None = None
    no_vllm: str = ""
    vllm_named: bool = False
    traps: tuple[tuple[str, str], ...] | None = ()


@dataclass(frozen=True)
class Examination:
    """All that `doctor` says: its rows, and the facts that they are made of."""

    rows: tuple[Row, ...]
    found: Surroundings

    @property
    def failed(self) -> bool:
        return any(row.state == "fail" for row in self.rows)


def held(codes: Iterable[Code]) -> str:
    """`; code for sm_90a, sm_120f, compute_80`; "" for none."""
    ordered = sorted(set(codes), key=lambda code: (code.kind == "compute", code))
    return f"; code for {', '.join(map(str, ordered))}" if ordered else ""


def architecture(capability: Capability) -> str:
    """`sm_110`."""
    return str(Code("sm", capability))


def number(capability: Capability | None) -> str:
    """`11.0`."""
    return "not known" if capability is None else f"{capability[0]}.{capability[1]}"
