"""Export layouts: one file each, which reads and writes it, so that plan, pack and verify name tensors alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from pytest_q3omni.layouts._protocol import Declared, Layout
from pytest_q3omni.records import TensorInfo
from pytest_q3omni.registry import load, names

__all__ = ["Declared", "Layout", "Suffixes", "layout", "layout_names", "layout_of", "suffixes"]


class Suffixes(NamedTuple):
    """How a layout ends the names of a packed module's tensors."""

    codes: str
    block_scale: str
    global_scale: str
    input_scale: str


def layout_names() -> tuple[str, ...]:
    """The known layouts, sorted."""
    return names(__name__)


def layout(name: str) -> Layout:
    """The layout `name`.

    Raises:
        UnknownName: no such layout.
    """
    return cast("Layout", load(__name__, name).LAYOUT)


def layout_of(block: Mapping[str, Any]) -> Layout | None:
    """The layout that wrote a `quantization_config` block, None where no layout knows it."""
    return next((found for found in map(layout, layout_names()) if found.reads(block)), None)


def suffixes(found: Layout) -> Suffixes:
    """How `found` ends the names of codes, block scale, global scale and input scale."""
    targets = found.targets(TensorInfo("m.weight", "BF16", (16, 16)), "w4a4")
    return Suffixes(*(target.name.removeprefix("m.") for target in targets))
