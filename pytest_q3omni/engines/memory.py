"""How much memory is free, for models that may not fit beside each other."""

from __future__ import annotations

import os
import re
from pathlib import Path

GIB = 1 << 30


def available_bytes(device: str) -> int | None:
    """Bytes that a model may take on `device` now; None where the system does not say."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    try:
        match = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    if match:
        return int(match[1]) * 1024
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf, macOS not this name
        return None


def gib(size: int) -> str:
    """`65.7 GiB`."""
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / (1 << 20):.1f} MiB"
