"""Faults that a comparison must find: what of a checkpoint's tensors is taken from elsewhere, or changed on the way.

Each control damages one layer, as a whole, in a way that has happened to somebody. A comparison that passes a control
says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_q3omni.errors import Inconsistent, InvalidRequest, UnknownName
from pytest_q3omni.layouts import Layout, suffixes
from pytest_q3omni.records import TensorInfo
from pytest_q3omni.serve.depth import STACK

if TYPE_CHECKING:
    from numpy.typing import NDArray

Change = Callable[["NDArray[Any]"], "NDArray[Any]"]
"""Elements in, as many elements out."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One tensor of a checkpoint to be: what it is called there, and the source's tensor that its bytes come from.

    change: what happens to its elements on the way, piece by piece; None where they stay as they are.
    """

    info: TensorInfo
    source: TensorInfo
    change: Change | None = None


@dataclass(frozen=True, slots=True)
class Packed:
    """The tensors of a packed checkpoint by name, which modules are packed, and in which layout."""

    tensors: Mapping[str, TensorInfo]
    modules: Collection[str]
    layout: Layout


@dataclass(frozen=True)
class Control:
    """A fault in one layer. what: a clause that says what is done to it; stands_for: who does such a thing.

    spoil: (packed checkpoint, `thinker.model.layers.N`) -> the tensors that come out otherwise; none where the layer
    has nothing that the fault could be in. inputs_only: it shows where inputs are quantized, and nowhere else.
    """

    name: str
    what: str
    stands_for: str
    spoil: Callable[[Packed, str], list[Taken]]
    inputs_only: bool = False


def _rotated(packed: Packed, layer: str) -> list[Taken]:
    """Expert i holds what expert i + 1 holds, scales included; the last one the first one's."""
    experts = f"{layer}.mlp.experts."
    names = [name for name in packed.tensors if name.startswith(experts)]
    numbers = sorted({int(number) for name in names if (number := name.removeprefix(experts).split(".")[0]).isdigit()})
    following = dict(zip(numbers, [*numbers[1:], *numbers[:1]], strict=True))
    taken = []
    for name in names:
        number, _, rest = name.removeprefix(experts).partition(".")
        other = f"{experts}{following[int(number)]}.{rest}" if number.isdigit() else name
        info, source = packed.tensors[name], packed.tensors.get(other)
        if source is None or (source.dtype, source.shape) != (info.dtype, info.shape):
            found = "is not there" if source is None else f"is {source.dtype} {list(source.shape)}"
            raise Inconsistent(
                found, where=other, expected=f"{info.dtype} {list(info.shape)}, as {name}",
                fix="`q3omni verify` says what is wrong with this checkpoint",
            )  # fmt: skip
        taken.append(Taken(info, source))
    return taken


def _doubled(packed: Packed, layer: str) -> list[Taken]:
    """Twice the weights of q, k, v and o: by their global scale where they are packed, else one by one (no rounding).

    Qwen3 normalises q and k per head, which takes their factor out again: v and o carry the fault, fourfold.
    """
    taken, factor = [], 0.5 if packed.layout.inverted else 2.0
    for projection in "qkvo":
        module = f"{layer}.self_attn.{projection}_proj"
        name = f"{module}.{suffixes(packed.layout).global_scale}" if module in packed.modules else f"{module}.weight"
        info = packed.tensors.get(name)
        if info is not None and info.dtype in ("F32", "BF16"):
            change = _scaled(factor if module in packed.modules else 2.0)
            taken.append(Taken(info, info, change))
    return taken


def _swapped(packed: Packed, layer: str) -> list[Taken]:
    """The two codes of each byte exchanged, in every packed weight of the layer."""
    names = (f"{module}.{suffixes(packed.layout).codes}" for module in packed.modules if module.startswith(f"{layer}."))
    return [Taken(packed.tensors[name], packed.tensors[name], _swap_nibbles) for name in sorted(names)]


def _clipped(packed: Packed, layer: str) -> list[Taken]:
    """Input scales 100 times too small, in every packed module of the layer: inputs are cut off at a hundredth."""
    factor = 100.0 if packed.layout.inverted else 0.01
    names = (
        f"{module}.{suffixes(packed.layout).input_scale}" for module in packed.modules if module.startswith(f"{layer}.")
    )
    return [Taken(packed.tensors[n], packed.tensors[n], _scaled(factor)) for n in sorted(names) if n in packed.tensors]


def _scaled(factor: float) -> Change:
    def change(values: NDArray[Any]) -> NDArray[Any]:
        return (values.astype("float32") * factor).astype(values.dtype)

    return change


def _swap_nibbles(codes: NDArray[Any]) -> NDArray[Any]:
    return (codes << 4) | (codes >> 4)


CONTROLS: Mapping[str, Control] = {
    control.name: control
    for control in (
        Control(
            "experts-rotated", "all experts of one layer rotated by one",
            "a loader or an exporter that numbers experts otherwise", _rotated,
        ),
        Control(
            "attention-scale-doubled", "the global scales of one layer's attention doubled",
            "scales of unfused q, k and v, or a scale that is divided by where it should multiply", _doubled,
        ),
        Control(
            "nibbles-swapped", "the two codes of each byte exchanged in one layer",
            "a packer and a kernel that disagree on which column comes first", _swapped,
        ),
        Control(
            "input-scales-100-times-too-small", "the input scales of one layer divided by 100",
            "calibration in another unit; weight-only kernels never see it", _clipped, inputs_only=True,
        ),
    )
}  # fmt: skip
"""Name -> control."""


def spoiled(name: str, packed: Packed, layer: int) -> dict[str, Taken]:
    """What the control `name` does to a layer: tensor -> where it comes from instead.

    Raises:
        UnknownName: no such control.
        InvalidRequest: the layer has nothing that this fault could be in.
        Inconsistent: the experts of the layer are not alike.
    """
    control = CONTROLS.get(name)
    if control is None:
        known = ", ".join(CONTROLS)
        raise UnknownName(f"no control is called '{name}'", expected=f"one of {known}", fix="correct it")
    taken = control.spoil(packed, f"{STACK}.{layer}")
    if not taken:
        raise InvalidRequest(
            f"nothing there for the control '{name}'", where=f"{STACK}.{layer}", expected=control.what,
            fix="choose a layer that is packed, or another control",
        )  # fmt: skip
    return {each.info.name: each for each in taken}
