"""The rows of a diagnosis that are about vLLM: what it was built for, what it would choose, what it would refuse."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_q3omni.engines.cuda_code import Capability, how_it_runs, runs_on
from pytest_q3omni.engines.device import build_of
from pytest_q3omni.engines.kernel_choice import NEWEST, READ_IN, expected_kernels
from pytest_q3omni.engines.machine import Device
from pytest_q3omni.engines.vllm_surroundings import VLLMBuild
from pytest_q3omni.records import State
from pytest_q3omni.serve.examination import Row, Surroundings, architecture, held, number

FP4_CAPABILITY = (10, 0)
"""The first with FP4 tensor cores; earlier ones multiply packed weights as BF16 (Marlin)."""

_VLLM_BUILD = (
    "install a build for it (NVIDIA's container for Jetson, or a wheel for CUDA 13 and this processor), or build vLLM "
    "with TORCH_CUDA_ARCH_LIST={major}.{minor}"
)
_NO_VLLM = "install vLLM 0.26 or newer in an environment of its own, and name its interpreter with --engine-python"
_TUNE = "run vLLM's benchmarks/kernels/benchmark_moe.py --tune here and name its folder in VLLM_TUNED_CONFIG_FOLDER"


def vllm_row(found: Surroundings, device: Device | None) -> Row:
    """Is it here, does it work, and was it built for the device?"""
    build = found.vllm
    if build is None:
        state: State = "fail" if found.vllm_named else "not checked"
        return Row("vllm", state, "not found", found.no_vllm, _NO_VLLM)
    shown = f"vLLM {build.version or 'of unknown version'} in {build.python}" + held(build.codes)
    if build.trouble:
        return _unusable(build, device, shown)
    if device is None or device.capability is None:
        kind = "a CUDA build" if build.units else "a build without CUDA: it can judge loading (`verify --engine vllm`)"
        return Row("vllm", "not checked", shown, f"{kind}; no device to compare it with")
    major, minor = device.capability
    fix = _VLLM_BUILD.format(major=major, minor=minor)
    if not build.units:
        if build.unread:
            return Row("vllm", "not checked", shown, f"what it holds code for is not known: {', '.join(build.unread)}")
        return Row("vllm", "fail", shown, f"a build without CUDA cannot use {device.name}", fix)
    torch = found.vllm_torch
    if torch is not None and torch.trouble:
        return Row("vllm", "fail", shown, f"its {build_of(torch.version, torch.cuda)} fails: {torch.trouble}", fix)
    return _kernel_code(build, device.capability, shown, fix)


def _unusable(build: VLLMBuild, device: Device | None, shown: str) -> Row:
    """Its files are read all the same: one that was built for other GPUs need not be repaired."""
    meaning, fix = f"cannot be used: {build.trouble}", "reinstall it with the torch that it names"
    if build.units and device is not None and device.capability is not None:
        major, minor = device.capability
        code = _kernel_code(build, device.capability, shown, _VLLM_BUILD.format(major=major, minor=minor))
        if code.state == "fail":
            return Row("vllm", "fail", shown, f"{meaning}. And {code.meaning}", code.fix)
    return Row("vllm", "fail", shown, meaning, fix)


def _kernel_code(build: VLLMBuild, capability: Capability, shown: str, fix: str) -> Row:
    """FP4 instructions exist per family ("f") or capability ("a") only: plain code for a device cannot hold them."""
    wanted, how = architecture(capability), how_it_runs(build.codes, capability)
    usable = sum(any(runs_on(code, capability) for code in unit) for unit in build.units)
    count = f"{usable} of {len(build.units)} source files of its kernels have code that {wanted} can run"
    if not how:
        return Row("vllm", "fail", shown, f"no kernel of it runs on {wanted}", fix)
    fp4 = any(code.suffix and code.kind == "sm" and runs_on(code, capability) for code in build.codes)
    if capability >= FP4_CAPABILITY and not fp4:
        return Row("vllm", "fail", shown, f"{count}, its FP4 kernels are not among them: built without {wanted}", fix)
    if how == "ptx":
        return Row("vllm", "fail", shown, f"{count}, all as PTX that the driver compiles: slow to start, untested", fix)
    return Row("vllm", "pass", shown, count)


def kernels_row(found: Surroundings, device: Device | None) -> Row:
    """What it chooses for packed weights, asked or, where it cannot be asked, expected."""
    name, build = "kernels", found.vllm
    if device is None or device.capability is None:
        return Row(name, "not checked", "no device", "which kernels are chosen depends on it")
    if found.numerics == "bf16":
        asked = "" if build is None else build.kernels.get("bf16 experts", "")
        return Row(name, "pass" if asked else "not checked", asked or "nothing is packed", "the recipe packs nothing")
    if build is None or not (build.kernels or build.refused):
        expected = expected_kernels(device.capability)
        if device.capability >= NEWEST:
            unread = f"{number(device.capability)} is newer than what was read ({READ_IN})"
            return Row(name, "not checked", unread, "a vLLM that knows this device has to be asked: see the row vllm")
        if not expected:
            known = f"{READ_IN} have no NVFP4 kernel for {number(device.capability)}"
            return Row(name, "fail", known, "packed weights cannot be served on this device", "use a newer GPU")
        meaning = f"expected, from reading {READ_IN}; not asked, since no vLLM with CUDA is here"
        return Row(name, "not checked", _told(expected, found.numerics), meaning)
    refused = {kind: why for kind, why in build.refused.items() if kind.startswith((found.numerics, "kernels"))}
    if refused:
        why = "; ".join(f"{kind}: {told}" for kind, told in refused.items())
        fix = "see the row vllm; `q3omni verify --engine vllm` says whether the checkpoint loads"
        return Row(name, "fail", "none", f"vLLM chooses no kernel. {why}", fix)
    return _judged_choice(found, build, device.capability)


def _judged_choice(found: Surroundings, build: VLLMBuild, capability: Capability) -> Row:
    shown = _told(build.kernels, found.numerics)
    flashinfer = f"FlashInfer {build.flashinfer}" if build.flashinfer else "without FlashInfer"
    asked = f"vLLM {build.version} was asked ({flashinfer})"
    used = [kernel for kind, kernel in build.kernels.items() if kind.startswith(f"{found.numerics} ")]
    if any("emulation" in kernel.lower() for kernel in used):
        fix = "install FlashInfer, or a vLLM that was built for this GPU"
        return Row("kernels", "fail", shown, f"{asked}; it emulates, which is for testing and slow", fix)
    if found.numerics == "w4a4" and any("marlin" in kernel.lower() for kernel in used):
        meaning = f"{asked}; Marlin multiplies the packed weights with BF16 inputs and never reads an input scale"
        if capability >= FP4_CAPABILITY:
            fix = "install a vLLM that was built for this GPU; see the row vllm"
            return Row("kernels", "fail", shown, f"{meaning}: this device's FP4 units stay idle", fix)
        return Row("kernels", "pass", shown, meaning)
    return Row("kernels", "pass", shown, asked)


def _told(kernels: Mapping[str, str], numerics: str) -> str:
    """Those of the wanted numerics first: `W4A4 linear: ...; W4A4 experts: ...; W4A16 linear: ...`."""
    ordered = sorted(kernels.items(), key=lambda each: not each[0].startswith(f"{numerics} "))
    return "; ".join(f"{kind.replace('w4a', 'W4A').replace('bf', 'BF')}: {kernel}" for kind, kernel in ordered)


def tuning_row(found: Surroundings, device: Device | None) -> Row:
    """Only Triton's kernel reads such a file: a packed checkpoint on Marlin or CUTLASS takes none."""
    name, shapes = "expert tuning", found.shapes
    file, place = ("", "") if found.vllm is None else found.vllm.tuning
    if device is None or not file:
        shown = f"E={shapes.experts},N={shapes.width} for this device"
        return Row(name, "not checked", shown, "no vLLM with CUDA to ask for the file with tuned settings")
    cost = "Thor, vLLM 0.15.1: 34 instead of 61 tokens per second at 1, 96 instead of 226 at 8"
    backend = found.vllm.kernels.get("bf16 experts", "") if found.vllm else ""
    packed = f"packed experts ({found.numerics.upper()}) run in kernels that read no such file"
    reads = not backend or "TRITON" in backend.upper()
    if not reads:
        return Row(name, "pass", file, f"nothing reads it here: BF16 experts run in {backend}, and {packed}")
    if place:
        return Row(name, "pass", place, "BF16 experts (Triton) use it" + ("" if _bf16(found) else f"; {packed}"))
    if _bf16(found):
        return Row(name, "fail", f"no {file}", f"BF16 experts (Triton) run with default settings. Cost: {cost}", _TUNE)
    meaning = (
        f"{packed}. The BF16 original (Triton) runs with default settings, which flatters a comparison. Cost: {cost}"
    )
    return Row(name, "pass", f"no {file}", meaning, f"before comparing with BF16, {_TUNE}")


def _bf16(found: Surroundings) -> bool:
    return found.numerics == "bf16"


def traps_row(found: Surroundings) -> Row:
    """What engines are known to do with the checkpoint, from the table that `plan` and `verify` ask, too."""
    if found.traps is None:
        return Row("engine limits", "not checked", "packed files", "`q3omni verify` asks this of files")
    version = found.vllm.version if found.vllm else ""
    asked = f"vLLM {version}" if version else "any release of vLLM"
    if not found.traps:
        known = f"{asked} is not known" if version else "no release of vLLM is known"
        return Row("engine limits", "pass", "none known", f"{known} to refuse or misread this checkpoint")
    state: State = "fail" if version else "not checked"
    told, fixes = (". ".join(dict.fromkeys(part)) for part in zip(*found.traps, strict=True))
    return Row("engine limits", state, f"{len(found.traps)} known to {asked}", told, fixes)
