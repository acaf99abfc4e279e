"""A small probe: which CUDA device is here, what a `gpu` or `thor` item lacks, and whether a model can run on a device.

The probe imports torch, so ask late.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

from pytest_q3omni.engines.machine import driver_version
from pytest_q3omni.errors import InvalidRequest, MissingDependency

GPU_CAPABILITY, THOR_CAPABILITY = (8, 0), (11, 0)
NEEDS = {
    "gpu": "a CUDA device of compute capability 8.0 or higher",
    "thor": "an NVIDIA Thor (compute capability 11.0)",
}

NO_TORCH = "torch is not installed: pip install 'pytest-q3omni[quantize]'"

_NAME = re.compile(r"cpu|cuda(:(0|[1-9][0-9]*))?")


@dataclass(frozen=True)
class Devices:
    """The CUDA devices of this machine as (name, capability), and in words why there is none.

    build: torch's version and what it was built for. driver: NVIDIA's, "" for none; None where nobody looked.
    """

    cuda: tuple[tuple[str, tuple[int, int]], ...] = ()
    why_none: str = ""
    build: str = ""
    driver: str | None = None

    def __str__(self) -> str:
        shown = ", ".join(f"{name} ({major}.{minor})" for name, (major, minor) in self.cuda)
        return f"found {shown}" if shown else self.why_none

    @property
    def surroundings(self) -> str:
        """What else was seen, to go on with: `, torch 2.14.1, CPU build, no NVIDIA driver`."""
        driver = f"NVIDIA driver {self.driver}" if self.driver else "no NVIDIA driver"
        parts = [self.build, "" if self.driver is None else driver]
        return "".join(f", {part}" for part in parts if part and part not in self.why_none)


@cache
def probe() -> Devices:
    """Look once per process. Never raises: a broken torch is an answer, too."""
    driver = driver_version()
    if find_spec("torch") is None:
        return Devices(why_none=NO_TORCH, driver=driver)
    try:
        import torch
    except (ImportError, OSError) as error:  # a CUDA build without its libraries raises OSError
        return Devices(why_none=broken_torch(error), driver=driver)
    build = build_of(torch.__version__, torch.version.cuda)
    if not torch.cuda.is_available():
        return Devices(why_none=no_device(build), build=build, driver=driver)
    numbers = range(torch.cuda.device_count())
    found = tuple((torch.cuda.get_device_name(n), torch.cuda.get_device_capability(n)) for n in numbers)
    return Devices(found, build=build, driver=driver)


def no_device(build: str) -> str:
    """Why there is none where torch works."""
    return f"no CUDA device found ({build})"


def broken_torch(why: object) -> str:
    """Why there is none where torch is installed and does not work."""
    return f"torch cannot be imported: {why}"


def build_of(version: str, cuda: str | None) -> str:
    """`torch 2.14.1, CUDA 13.0 build`."""
    return f"torch {version}, " + (f"CUDA {cuda} build" if cuda else "CPU build")


def missing(kind: str, devices: Devices) -> str:
    """What a `gpu` or `thor` item lacks on these devices: what is needed, what was found; "" for nothing.

    It is the reason of a skipped item, and what `q3omni doctor` says of such items.
    """
    capabilities = [capability for _, capability in devices.cuda]
    if kind == "thor":
        enough = THOR_CAPABILITY in capabilities
    else:
        enough = any(capability >= GPU_CAPABILITY for capability in capabilities)
    return "" if enough else f"needs {NEEDS[kind]}; {devices}{devices.surroundings}; `q3omni doctor` says more"


def check_device(name: str) -> None:
    """Refuse a device that no model can run on, before any work: later, each conversation would fail, and be blamed.

    "cpu" is never looked into, so that asking costs no import of torch.

    Raises:
        InvalidRequest: not a name of the form cpu, cuda or cuda:N, or no such CUDA device here; says what was found.
        MissingDependency: a CUDA device is asked for and torch is not installed.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise InvalidRequest(
            f"the device {name!r}", where="--device", expected="cpu, cuda or cuda:N", fix="use one of these names"
        )
    if name == "cpu":
        return
    if find_spec("torch") is None:
        fix = "pip install 'pytest-q3omni[quantize]'"
        raise MissingDependency("torch is not installed", where=f"--device {name}", fix=fix)
    devices = probe()
    if int(match[2] or 0) >= len(devices.cuda):
        raise InvalidRequest(
            f"no such GPU: {devices}", where=f"--device {name}", expected="a CUDA GPU that torch can use",
            fix=f"--device cpu{', or a smaller number' if devices.cuda else ''}",
        )  # fmt: skip


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one core, for models so small that threads only wait for each other: on a busy machine with two cores
    they take five times as long as one (measured on the tiny model)."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
