"""Which elements of vLLM's parameters its loader writes: proved from shapes alone, or from the bytes themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

FIRST, SECOND = 0x55, 0xAA


class Written:
    """Elements written of each row (index of the first dimension) of each parameter; a scalar is one row."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        import numpy as np

        self.parameters = parameters
        self.rows = {name: np.zeros(_height(value), np.int64) for name, value in parameters.items()}

    def gaps(self, name: str) -> list[list[int]]:
        """Runs of rows that are not wholly written: [first, after the last]."""
        width = self.parameters[name].numel() // max(1, _height(self.parameters[name]))
        short = (self.rows[name] < width).nonzero()[0].tolist()
        runs: list[list[int]] = []
        for row in short:
            if runs and runs[-1][1] == row:
                runs[-1][1] += 1
            else:
                runs.append([row, row + 1])
        return runs

    def count(self, name: str) -> int:
        """Elements written, at most all."""
        return min(int(self.rows[name].sum()), int(self.parameters[name].numel()))


def _height(parameter: Any) -> int:
    return int(parameter.shape[0]) if parameter.dim() else 1


def by_headers(parameters: dict[str, Any], load: Callable[[], Any]) -> Written:
    """Run `load` and count what is copied into parameters that live on the meta device.

    A region that is written twice counts once. Nothing of vLLM's loader is replaced: torch reports every copy.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    written = Written(parameters)
    owners = {value.untyped_storage()._cdata: name for name, value in parameters.items()}
    seen: dict[str, set[tuple[Any, ...]]] = {name: set() for name in parameters}

    class Copies(TorchDispatchMode):  # type: ignore[misc]  # torch is not typed here
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function._schema.name == "aten::copy_":
                target = args[0]
                name = owners.get(target.untyped_storage()._cdata)
                region = (target.storage_offset(), tuple(target.shape), target.stride())
                if name is not None and region not in seen[name]:
                    seen[name].add(region)
                    _count(written.rows[name], parameters[name], target)
            return function(*args, **(kwargs or {}))

    with Copies():
        load()
    return written


def _count(rows: Any, parameter: Any, target: Any) -> None:
    """Add a region's elements to the rows it lies in."""
    elements = target.numel()
    width = max(1, parameter.numel() // len(rows))
    start = (target.storage_offset() - parameter.storage_offset()) // width
    if target.dim() == parameter.dim() and target.dim() and target.stride(0) == parameter.stride(0):
        height = int(target.shape[0])
    else:  # a selected row, or part of one
        height = -(-elements // width)
    if height:
        rows[start : start + height] += elements // height


def by_bytes(parameters: dict[str, Any], load: Callable[[], Any]) -> Written:
    """Fill all parameters, load, fill them otherwise, load again: bytes that still hold both fillings nobody wrote."""
    import numpy as np
    import torch

    def whole(value: Any) -> Any:
        return torch.empty(0, dtype=torch.uint8).set_(value.untyped_storage()).numpy()

    for value in parameters.values():
        whole(value).fill(FIRST)
    load()
    untouched = {name: np.packbits(whole(value) == FIRST) for name, value in parameters.items()}
    for value in parameters.values():
        whole(value).fill(SECOND)
    load()
    written = Written(parameters)
    for name, value in parameters.items():
        data = whole(value)
        both = np.unpackbits(untouched[name], count=len(data)).view(bool) & (data == SECOND)
        begin = value.storage_offset() * value.element_size()
        elements = both[begin : begin + value.numel() * value.element_size()].reshape(-1, value.element_size())
        written.rows[name] += (~elements.any(axis=1)).reshape(len(written.rows[name]), -1).sum(axis=1)
    return written
