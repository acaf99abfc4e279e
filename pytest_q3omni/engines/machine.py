"""What NVIDIA's driver and the system say of this machine, without torch: driver, devices, memory, unified or not.

`nvidia-smi` is a program that may be missing, hang on a sick GPU, or print something else: it gets a few seconds, and
what cannot be read is left out.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_q3omni.engines.memory import available_bytes

SECONDS = 10.0
"""How long nvidia-smi may take; a second is usual, more where the driver wakes a device first."""

_COLUMNS = ("index", "name", "compute_cap", "memory.total", "memory.free", "driver_version")
_QUERY = ("nvidia-smi", f"--query-gpu={','.join(_COLUMNS)}", "--format=csv,noheader,nounits")
_MOST_OUTPUT, _MOST_DEVICES, _LONGEST_NAME = 65_536, 64, 100
_LOOK_SECONDS, _GRACE_SECONDS = 0.02, 2.0
_UNIFIED = re.compile(r"\b(?:Thor|Orin|Xavier|GB10)\b")
_JETSON = re.compile(r"jetson|thor|orin|xavier", re.IGNORECASE)


@dataclass(frozen=True)
class Device:
    """A GPU. total, free: bytes, None where unknown; of a unified device, those of the system.

    unified: shares its memory with the CPU; None where nothing says so.
    """

    index: int
    name: str
    capability: tuple[int, int] | None = None
    total: int | None = None
    free: int | None = None
    unified: bool | None = None


@dataclass(frozen=True)
class Machine:
    """What the driver says. driver: its version, "" where there is none; cuda: the newest CUDA that it runs.

    trouble: why nvidia-smi, which is there, says nothing that can be used. board: of a Jetson, its name.
    """

    driver: str = ""
    cuda: str = ""
    devices: tuple[Device, ...] = ()
    trouble: str = ""
    board: str = ""


def look(*, proc: Path = Path("/proc"), seconds: float = SECONDS) -> Machine:
    """Ask the system. Never raises. proc: where Linux shows its state."""
    driver, board = driver_version(proc), board_name(proc)
    if shutil.which("nvidia-smi") is None:
        return Machine(driver, board=board)
    text, trouble = _said(_QUERY, seconds)
    rows = [] if trouble else [row for row in map(_columns, text.splitlines()) if len(row) == len(_COLUMNS)]
    found = [_device(row, bool(board)) for row in rows[:_MOST_DEVICES]]
    devices = tuple(device for device in found if device is not None)
    if not devices:
        return Machine(driver, board=board, trouble=trouble or f"nvidia-smi lists no device: {_line(text)}")
    header, _ = _said(("nvidia-smi",), seconds)
    cuda = re.search(r"CUDA(?: UMD)? Version:\s*(\d+\.\d+)", header)
    version = rows[0][-1]
    known = version if re.fullmatch(r"\d[\d.]{1,20}", version) else driver
    return Machine(known, cuda[1] if cuda else "", devices, board=board)


def driver_version(proc: Path = Path("/proc")) -> str:
    """The version of NVIDIA's kernel driver, "seen" where it does not say which, "" where there is none. At once."""
    text = _read(proc / "driver" / "nvidia" / "version")
    match = re.search(r"\b(\d{3,4}\.\d+(?:\.\d+)?)\b", text)
    if match:
        return match[1]
    return "seen" if text or Path("/dev/dxg").exists() else ""  # /dev/dxg: the driver of Windows, under WSL


def board_name(proc: Path = Path("/proc")) -> str:
    """The name of a Jetson, such as `NVIDIA Jetson AGX Thor Developer Kit`; "" elsewhere."""
    name = _read(proc / "device-tree" / "model").replace("\0", " ").strip()[:_LONGEST_NAME]
    return name if _JETSON.search(name) else ""


def system_memory(proc: Path = Path("/proc")) -> tuple[int | None, int | None]:
    """Bytes of memory, all and available, which a unified GPU shares; available within a container's limit."""
    match = re.search(r"^MemTotal:\s+(\d+) kB$", _read(proc / "meminfo"), re.MULTILINE)
    return (int(match[1]) * 1024 if match else None), available_bytes("cpu", proc=proc)


def _device(row: Sequence[str], unified: bool) -> Device | None:
    """A line of nvidia-smi; None where it is no such line. Jetson and Spark print `[N/A]` for the memory."""
    index, name, capability, total, free, _ = row
    if not (index.isdecimal() and len(index) < 4 and name and name.isprintable()):
        return None
    match = re.fullmatch(r"(\d{1,2})\.(\d)", capability)
    sizes = [int(size) << 20 if size.isdecimal() and len(size) < 10 else None for size in (total, free)]
    return Device(
        int(index), name[:_LONGEST_NAME], (int(match[1]), int(match[2])) if match else None, sizes[0], sizes[1],
        True if unified or _UNIFIED.search(name) else None,
    )  # fmt: skip


def _columns(line: str) -> list[str]:
    return [part.strip() for part in line.split(",")]


def _said(command: Sequence[str], seconds: float) -> tuple[str, str]:
    """(what a program printed, why it is of no use); it is ended when its time is over or it prints without end."""
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as error:
            return "", f"{command[0]} cannot be started ({error.strerror})"
        deadline, size = time.monotonic() + seconds, 0
        while process.poll() is None and time.monotonic() < deadline and size <= _MOST_OUTPUT:
            time.sleep(_LOOK_SECONDS)
            size = os.fstat(output.fileno()).st_size
        code = process.poll()
        _end(process)
        size = os.fstat(output.fileno()).st_size
        output.seek(0)
        text = output.read(_MOST_OUTPUT).decode("utf-8", "replace")
    if size > _MOST_OUTPUT:
        return text, f"{command[0]} printed more than {_MOST_OUTPUT:,} bytes"
    if code is None:
        return text, f"{command[0]} did not answer within {seconds:g} s"
    return text, f"{command[0]} ended with code {code}: {_line(text)}" if code else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and what it started; on Windows, which has no process groups of this kind, itself."""
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)  # a program that waits for a sick device cannot be ended at all


def _line(text: str) -> str:
    """The first line of what a program printed, fit for a sentence."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "it printed nothing")
    return "".join(char if char.isprintable() else "?" for char in first)[:200]


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(_MOST_OUTPUT).decode("utf-8", "replace")
    except OSError:
        return ""
