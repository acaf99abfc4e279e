"""What this machine can do with a checkpoint, and what is in its way: facts in, rows out. Nothing is probed here.

A row is "fail" where something that is here is wrong, "not checked" where something is not here.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.engines.cuda_code import Code, how_it_runs
from pytest_q3omni.engines.device import GPU_CAPABILITY, NO_TORCH, Devices, broken_torch, build_of, missing, no_device
from pytest_q3omni.engines.machine import Device
from pytest_q3omni.engines.memory import gib
from pytest_q3omni.engines.vllm_surroundings import TorchBuild
from pytest_q3omni.records import State
from pytest_q3omni.serve.doctor_vllm import kernels_row, traps_row, tuning_row, vllm_row
from pytest_q3omni.serve.examination import Row, Surroundings, architecture, held, number
from pytest_q3omni.serve.fit import ALLOWANCE, UTILISATION, Needs, utilisation

_TORCH_INDEX = "install a build for this GPU: pytorch.org/get-started names them by CUDA version"


def chosen_device(devices: tuple[Device, ...]) -> Device | None:
    """The device that everything is judged for: the first that is new enough, else the first."""
    fitting = (device for device in devices if device.capability and device.capability >= GPU_CAPABILITY)
    return next(fitting, devices[0] if devices else None)


def judge_surroundings(found: Surroundings) -> tuple[Row, ...]:
    """The rows in the order of the way from the driver to a served checkpoint."""
    device = chosen_device(found.devices)
    return (
        _driver(found),
        *_devices(found, device),
        _torch(found.torch, device),
        vllm_row(found, device),
        kernels_row(found, device),
        tuning_row(found, device),
        _memory(found.needs, device),
        traps_row(found),
        *_marked(found),
    )


def _driver(found: Surroundings) -> Row:
    machine = found.machine
    if machine.trouble:
        fix = "run nvidia-smi by hand; a device that hangs needs a restart, an update of the driver too"
        return Row("driver", "fail", machine.trouble, "the driver is not usable", fix)
    if not machine.driver and not machine.devices:
        return Row("driver", "not checked", "no NVIDIA driver", "no GPU can be used here; everything else works")
    cuda = f", runs programs of CUDA {machine.cuda} and earlier" if machine.cuda else ""
    board = f" on {machine.board}" if machine.board else ""
    return Row("driver", "pass", f"NVIDIA driver {machine.driver}{board}", f"the driver is loaded{cuda}")


def _devices(found: Surroundings, judged: Device | None) -> Iterator[Row]:
    if judged is None:
        said = "; torch says: " + found.torch.trouble if found.torch.trouble and found.machine.driver else ""
        yield Row("device", "not checked", f"no CUDA device{said}", "plan, quantize and verify work without one")
    for device in found.devices:
        yield _device(found, device, judged)


def _device(found: Surroundings, device: Device, judged: Device | None) -> Row:
    name = f"device {device.index}"
    shown = f"{device.name}, compute capability {number(device.capability)}, {_sizes(device)}"
    kinds = {True: "memory is shared with the CPU", False: "memory of its own", None: "the driver lists it"}
    kind = kinds[device.unified]
    broken = found.torch.broken.get(device.index)
    if broken:
        fix = "end programs that hold its memory; see the rows driver and torch"
        return Row(name, "fail", shown, f"torch cannot compute on it: {broken}", fix)
    if device.capability is not None and device.capability < GPU_CAPABILITY:
        state: State = "fail" if device is judged else "not checked"
        return Row(name, state, shown, f"older than {number(GPU_CAPABILITY)}, so it is not used", "use a newer GPU")
    if device is judged and device.index:
        return Row(name, "pass", shown, f"{kind}; the rows below are for it", f"CUDA_VISIBLE_DEVICES={device.index}")
    more = "; the rows below are for it" if device is judged and len(found.devices) > 1 else ""
    return Row(name, "pass", shown, f"{kind}{more}")


def _sizes(device: Device) -> str:
    total = "memory not known" if device.total is None else gib(device.total)
    return total if device.free is None else f"{total}, {gib(device.free)} free"


def _torch(torch: TorchBuild, device: Device | None) -> Row:
    if not torch.version:
        fix = "pip install 'pytest-q3omni[quantize]'"
        if absent(torch):
            meaning = "plan, packing and verify need none; calibration, parity and vLLM do"
            return Row("torch", "not checked", "not installed", meaning, fix)
        return Row("torch", "fail", f"cannot be imported: {torch.trouble}", "it is installed and broken", fix)
    shown = f"{build_of(torch.version, torch.cuda)}{held(torch.architectures)}"
    if device is None:
        return Row("torch", "not checked", shown, "no device to compare it with")
    if torch.trouble:
        fix = _TORCH_INDEX if not torch.cuda else f"{_TORCH_INDEX}; the driver must be as new as that CUDA"
        return Row("torch", "fail", shown, f"it does not reach {device.name}: {torch.trouble}", fix)
    return _contains("torch", shown, torch.architectures, device, _TORCH_INDEX)


def absent(torch: TorchBuild) -> bool:
    """True where torch is not installed, False where it is and does not work."""
    return "No module named 'torch'" in torch.trouble


def _contains(name: str, shown: str, codes: tuple[Code, ...], device: Device, fix: str) -> Row:
    if device.capability is None or not codes:
        return Row(name, "not checked", shown, "whether it holds code for this device is not known")
    wanted, how = architecture(device.capability), how_it_runs(codes, device.capability)
    if how == "machine code":
        return Row(name, "pass", shown, f"it holds machine code that {wanted} runs")
    if how == "ptx":
        return Row(name, "pass", shown, f"it holds no machine code for {wanted}; the driver compiles PTX at first use")
    return Row(name, "fail", shown, f"it holds no code for {wanted}", fix)


def _memory(needs: Needs, device: Device | None) -> Row:
    shown = (
        f"{needs.name}: {gib(needs.weights)} weights (vLLM loads the thinker only) + {gib(needs.cache_bytes)} KV cache "
        f"({needs.at_once} x {needs.context:,} tokens) + {gib(ALLOWANCE)} allowance = {gib(needs.total)}"
    )
    if needs.longest and needs.context > needs.longest:
        known = f"the model knows {needs.longest:,} positions, and {needs.context:,} tokens are asked of each request"
        return Row("memory", "fail", shown, known, f"ask for {needs.longest:,} tokens or fewer with --context")
    if device is None or device.total is None:
        return Row("memory", "not checked", shown, "no device whose memory is known")
    free = device.total if device.free is None else min(device.free, device.total)
    if needs.total > free:
        return _too_large(needs, device, free, shown)
    meaning = f"fits into {gib(free)} free; weights and allowance leave room for {needs.largest(free)}"
    share = utilisation(free, device.total)
    if share < UTILISATION:
        why = f"vLLM wants {UTILISATION:.0%} of {gib(device.total)} unless told otherwise, which is not free"
        return Row(
            "memory", "pass", shown, f"{meaning}. {why}", f"start vLLM with --gpu-memory-utilization {share:.2f}"
        )
    return Row("memory", "pass", shown, meaning)


def _too_large(needs: Needs, device: Device, free: int, shown: str) -> Row:
    assert device.total is not None
    if needs.total <= device.total:
        shared = ", the page cache and other programs of the system among them" if device.unified else ""
        meaning = f"{gib(free)} are free and {gib(needs.total)} needed; the device has {gib(device.total)}{shared}"
        return Row("memory", "fail", shown, meaning, f"end what holds {gib(needs.total - free)} of it")
    fixes = []
    if needs.tokens_in(device.total) >= 1024:
        fixes.append(f"ask for less: {needs.largest(device.total)} fit")
    others = needs.recipes_in(device.total)
    fixes.append(f"use recipe {' or '.join(others)}" if others else "no recipe fits with this cache")
    meaning = f"needs {gib(needs.total)}, the device has {gib(device.total)}"
    return Row("memory", "fail", shown, meaning, "; ".join(fixes))


def _marked(found: Surroundings) -> Iterator[Row]:
    """What pytest says of items marked `gpu` and `thor`, from the same function."""
    torch = found.torch
    build = build_of(torch.version, torch.cuda) if torch.version else ""
    usable = tuple((device.name, device.capability) for device in torch.devices if device.capability)
    why = no_device(build) if build else NO_TORCH if absent(torch) else broken_torch(torch.trouble)
    seen = Devices(usable, "" if usable else why, build, found.machine.driver)
    for kind in ("gpu", "thor"):
        lacking = missing(kind, seen).removesuffix("; `q3omni doctor` says more")
        if lacking:
            yield Row(f"{kind} tests", "not checked", "skipped", lacking)
        else:
            yield Row(f"{kind} tests", "pass", "run", f"pytest runs items marked `{kind}`, on your checkpoints")
