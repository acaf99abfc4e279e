"""How much memory is free, for models that may not fit beside each other."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

GIB = 1 << 30
_V1, _V2 = ("memory.limit_in_bytes", "memory.usage_in_bytes"), ("memory.max", "memory.current")
_CACHED = re.compile(r"^(?:in)?active_file (\d+)$", re.MULTILINE)


def available_bytes(device: str, *, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that a model may take on `device` now; None where the system does not say.

    proc, cgroups: where Linux shows its state, and the limits of containers and services: past these a process is
    killed while the machine still has memory.
    """
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    found = [size for size in (_of_machine(proc), *_of_cgroups(proc, cgroups)) if size is not None]
    return min(found, default=None)


def _of_machine(proc: Path) -> int | None:
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", _read(proc / "meminfo"), re.MULTILINE)
    if match:
        return int(match[1]) * 1024
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf, macOS not this name
        return None


def _of_cgroups(proc: Path, root: Path) -> Iterator[int | None]:
    """What this process's control group and each one above it leave.

    In most containers the root is the container's own group, and the path that /proc tells may not exist below it.
    """
    for line in _read(proc / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            home, names = root, _V2
        elif "memory" in controllers.split(","):
            home, names = root / "memory", _V1
        else:
            continue
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts) + 1):
            yield _left(home.joinpath(*parts[:depth]), *names)


def _left(group: Path, limit_name: str, used_name: str) -> int | None:
    """Bytes up to a group's limit; None without one.

    Cached file contents count as used, but make room when memory is asked for; without them, a group that has just read
    a checkpoint would look full.
    """
    limit, used = _read(group / limit_name).strip(), _read(group / used_name).strip()
    if not (limit.isdecimal() and used.isdecimal()):  # "max", or no such file
        return None
    cached = sum(map(int, _CACHED.findall(_read(group / "memory.stat"))))
    return max(0, int(limit) - max(0, int(used) - cached))


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def gib(size: int) -> str:
    """`65.7 GiB`."""
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / (1 << 20):.1f} MiB"
