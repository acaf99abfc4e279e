"""What the input of a packed layer can be: bounds on its amax from weights and norms alone, without calibration.

Let w be the weight of the RMSNorm before the layer, H its width, x a normalised token: the mean square of x is 1, so
its length is sqrt(H). The norm's output is w * x.

- **q/k/v and gate/up** read that output. No element exceeds `sqrt(H) * max|w|`. And since sum x_i^2 = H, the largest
  |w_i x_i| is at least `sqrt(H / sum w_i^-2)`: both hold for every token of every model (BF16 rounding aside).
- **o** reads averages of v = W_v (w * x), so by Cauchy-Schwarz no element exceeds `sqrt(H) * max_j |W_v[j] * w|`.
- **down** reads silu(g) * u with |silu(g)| <= |g|: no element exceeds `H * max_j |W_g[j] * w| |W_u[j] * w|`.

Row lengths come from the block scales alone: a block of scale s and global scale G has at most length 24 s G (16
values of at most 6 s G); on trained weights about half of that. So the last two bounds are some 2 and 4 times too
wide, never too narrow. Their `typical` is no bound but what random directions give: one standard deviation for o,
four (the product of two tails) for down. Calibrated amax of the trained tiny model: 0.3, 0.4 and 0.05 of the bounds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from pytest_q3omni.nvfp4.format import BLOCK_SIZE
from pytest_q3omni.omni.safetensors_file import Entry
from pytest_q3omni.omni.storage import Span
from pytest_q3omni.verify.reading import LIMIT, affordable, floats
from pytest_q3omni.verify.subject import Packed, Subject

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LAYER = re.compile(r"^(?P<layer>.+\.layers\.\d+)\.(?P<block>self_attn|mlp)\.")
_NORM = {"self_attn": "input_layernorm", "mlp": "post_attention_layernorm"}
_LENGTH = 24.0  # of a block with scale 1: sqrt(16 * 6^2)
_SHARE = 0.25  # of the block scales that may be fetched from a hub


class Range(NamedTuple):
    """Bounds on an input's amax. `exact`: `typical` is a lower bound, too, and not an estimate."""

    typical: float
    upper: float
    exact: bool


class Activations:
    """Ranges for the inputs of one checkpoint's packed layers."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._norm = cache(self._read_norm)
        self._rows = cache(self._row_lengths)
        self._reach = cache(self._norm_range)
        self._widths = cache(self._block_maxima)
        self._budget = _SHARE * subject.checkpoint.storage.budget
        self._fetched: set[str] = set()
        self._apart: set[str] = set()

    def prefetch(self, modules: Iterable[Packed]) -> int:
        """Get what the ranges of these modules need, where the checkpoint is on a hub: norms, and as many block scales
        as may be fetched. Returns the number of the others; ranges that need them are None.
        """
        checkpoint, entries = self._subject.checkpoint, self._subject.entries
        if checkpoint.holds_weights:
            return 0
        norms: set[str] = set()
        scales: set[str] = set()
        for match, packed in ((_LAYER.match(packed.module), packed) for packed in modules):
            if match is not None:
                norms.add(f"{match['layer']}.{_NORM[match['block']]}.weight")
                scales.update(self._scales_of(packed))
        new = (scales & entries.keys()) - self._fetched
        near = affordable(checkpoint, new, self._budget)
        self._budget -= sum(entries[name].end - entries[name].begin for name in near)
        self._apart |= new.difference(near)
        wanted = [entries[name] for name in (*sorted((norms & entries.keys()) - self._fetched), *near)]
        self._fetched |= {entry.info.name for entry in wanted}
        checkpoint.storage.prefetch(Span(entry.file, entry.begin, entry.end, entry.info.name) for entry in wanted)
        return len(scales & self._apart)

    def _scales_of(self, packed: Packed) -> Iterator[str]:
        """The block scales that the range of a module's input needs."""
        parent, _, projection = packed.module.rpartition(".")
        for factor in {"o_proj": ("v_proj",), "down_proj": ("gate_proj", "up_proj")}.get(projection, ()):
            other = self._subject.packed.get(f"{parent}.{factor}")
            if other is not None:
                yield other.block_scale

    def range_of(self, packed: Packed) -> Range | None:
        """The range of a module's input amax; None where norm or neighbouring scales cannot tell."""
        match = _LAYER.match(packed.module)
        if match is None:
            return None
        name = f"{match['layer']}.{_NORM[match['block']]}.weight"
        norm = self._norm(name)
        if norm is None:
            return None
        parent, _, projection = packed.module.rpartition(".")
        width = len(norm)
        if projection in ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"):
            return self._reach(name)
        if projection == "o_proj":
            rows = self._rows(f"{parent}.v_proj", name)
            return None if rows is None else _range(float(rows.max()), 1.0, math.sqrt(width))
        if projection == "down_proj":
            gate, up = (self._rows(f"{parent}.{factor}", name) for factor in ("gate_proj", "up_proj"))
            if gate is None or up is None or len(gate) != len(up):
                return None
            return _range(float((gate * up).max()), 4.0, float(width))
        return None

    def _norm_range(self, name: str) -> Range | None:
        """The range of what a norm puts out."""
        norm = self._norm(name)
        if norm is None:
            return None
        with_zero = bool((norm == 0).any())
        least = 0.0 if with_zero else math.sqrt(len(norm) / float((norm**-2.0).sum()))
        return Range(least, math.sqrt(len(norm)) * float(norm.max()), True)

    def widest(self, modules: Iterable[Packed]) -> Range | None:
        """The range that covers those of all modules; None where no module has one."""
        found = [each for each in map(self.range_of, modules) if each is not None]
        if not found:
            return None
        return Range(min(r.typical for r in found), max(r.upper for r in found), all(r.exact for r in found))

    def _read_norm(self, name: str) -> NDArray[np.float64] | None:
        import numpy as np

        entry = self._subject.entries.get(name)
        if entry is None or len(entry.info.shape) != 1 or not self._subject.sound(name) or entry.info.dtype != "BF16":
            return None
        found = floats(self._subject.checkpoint, name)
        if found is None or not len(found) or len(found) % BLOCK_SIZE:
            return None  # of no layer that is packed
        values: NDArray[np.float64] = np.abs(found.astype(np.float64))
        return values if np.isfinite(values).all() and values.max() > 0 else None

    def _row_lengths(self, module: str, norm: str) -> NDArray[np.float64] | None:
        """Upper bound of |W[j] * w| for each row j of a packed module, from its block scales; w is the tensor `norm`.

        Cached, so by the norm's name: its values would be a key of 16 KB for each of 12,288 modules.
        """
        import numpy as np

        from pytest_q3omni.nvfp4.scales import scale_lengths

        if f"{module}.bias" in self._subject.entries:
            return None  # what a bias adds is not bounded here
        packed = self._subject.packed.get(module)
        scale = None if packed is None else self._subject.global_scale(packed)
        weights = self._norm(norm)
        if packed is None or scale is None or weights is None or not self._subject.sound(module):
            return None
        if packed.block_scale in self._apart:
            return None
        entry = self._subject.entries.get(packed.block_scale)
        fits = entry is not None and entry.info.shape == (packed.shape[0], len(weights) // BLOCK_SIZE)
        if entry is None or not fits or entry.info.dtype != "F8_E4M3" or not packed.shape[0]:
            return None
        parts = [scale_lengths(codes, self._widths(norm)) for codes in self._codes_of(entry)]
        lengths: NDArray[np.float64] = _LENGTH * scale * np.concatenate(parts)
        return lengths

    def _block_maxima(self, norm: str) -> NDArray[np.float64]:
        """The largest weight of a norm in each block of inputs."""
        weights = self._norm(norm)
        assert weights is not None
        maxima: NDArray[np.float64] = weights.reshape(-1, BLOCK_SIZE).max(axis=1)
        return maxima

    def _codes_of(self, entry: Entry) -> Iterator[NDArray[np.uint8]]:
        """The bytes of a block scale, some rows at a time."""
        rows, blocks = entry.info.shape
        at_once = max(1, LIMIT // blocks)
        for first in range(0, rows, at_once):
            start, stop = first * blocks, min(rows, first + at_once) * blocks
            yield self._subject.checkpoint.read(entry.info.name, start=start, stop=stop).reshape(-1, blocks)


def _range(longest: float, tail: float, width: float) -> Range:
    """Of a product of rows whose bound is `longest`: typical rows have half the length, in each factor."""
    factors = 1 if tail == 1.0 else 2
    return Range(tail * longest / 2**factors, longest * width, False)


def layer_of(module: str) -> str:
    """`....layers.N` of a module, "" outside a decoder layer."""
    match = _LAYER.match(module)
    return "" if match is None else match["layer"]


def sampled(modules: list[Packed], count: int) -> Iterator[Packed]:
    """At most `count` of them, evenly spread."""
    step = max(1, -(-len(modules) // count))
    yield from modules[::step]
