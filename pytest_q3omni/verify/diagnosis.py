"""What probably happened to a packed tensor that does not fit its source: a hint for the finding, never a verdict.

Each guess undoes one mistake and looks whether the tensor fits then. Only the first rows are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pytest_q3omni.verify.subject import Packed, Subject

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pytest_q3omni.nvfp4.codec import Packed as Values
    from pytest_q3omni.verify.comparison import Weight

    Floats = NDArray[np.float32]

_FITS = 0.15  # relative error of a sound tensor is 0.1, and a little more where a few rows are looked at
_SAME_SCALE = 0.05
_ROWS = 64
_CANDIDATES = 4096  # other tensors whose first row is compared


def far_codes(weight: Weight, values: Values) -> tuple[int, tuple[int, int]]:
    """(how many codes are not the nearest for the stored scales, (row, column) of the first).

    Nearest with a slack of 2^-8 of the larger distance, for writers that round quotients differently.
    """
    import numpy as np

    count, first = 0, (-1, -1)
    rows = max(1, (1 << 20) // weight.shape[1])
    for start in range(0, weight.shape[0], rows):
        with np.errstate(all="ignore"):
            far = _far(weight[start : start + rows], _rows(values, slice(start, start + rows)))
        if far.any():
            count += int(far.sum())
            row, column = (int(index) for index in np.argwhere(far)[0])
            first = (start + row, column) if first[0] < 0 else first
    return count, first


def _far(weight: Weight, part: Values) -> NDArray[np.bool_]:
    """For each code, whether another one is nearer to the weight."""
    import numpy as np

    from pytest_q3omni.nvfp4.codec import unpack_tensor
    from pytest_q3omni.nvfp4.format import BLOCK_SIZE, E2M1_VALUES

    grid = np.array(sorted({*E2M1_VALUES, *(-value for value in E2M1_VALUES)}), np.float32)
    wanted = weight.astype(np.float32)
    step = np.repeat(part.block_scale.astype(np.float32) * part.global_scale, BLOCK_SIZE, axis=1)
    nearest = grid[np.searchsorted((grid[1:] + grid[:-1]) / 2, wanted / step)] * step
    slack = 2.0**-8
    off, least = np.abs(wanted - unpack_tensor(part)), np.abs(wanted - nearest)
    return np.asarray(off > least * (1 + slack) + slack * step)


def likely_cause(subject: Subject, packed: Packed, weight: Weight, values: Values) -> str:
    """One sentence, or "" where nothing fits."""
    import numpy as np

    rows = slice(0, _ROWS)
    with np.errstate(all="ignore"):
        wanted, part = weight[rows].astype(np.float32), _rows(values, rows)
        for guess, said in _guesses(part):
            found = guess()
            if _error(wanted if len(found) == len(wanted) else wanted[1:-1], found) < _FITS:
                return said
        factor = _factor(wanted, part)
        if factor:
            size = f"{factor:.3g} times too large" if factor > 1 else f"{1 / factor:.3g} times too small"
            return f"All values are {size}: the global scale"
        return _another(subject, packed, part)


def _rows(values: Values, rows: slice) -> Values:
    return values._replace(codes=values.codes[rows], block_scale=values.block_scale[rows])


def _guesses(part: Values) -> Iterator[tuple[Callable[[], Floats], str]]:
    import numpy as np

    from pytest_q3omni.nvfp4.codec import unpack_tensor

    swapped = part._replace(codes=(part.codes << 4 | part.codes >> 4).astype(np.uint8))
    yield lambda: unpack_tensor(swapped), "The two nibbles of every byte are exchanged"
    for shift in (-1, 1):
        rolled = np.roll(part.block_scale.view(np.uint8).reshape(-1), shift).reshape(part.block_scale.shape)
        moved = part._replace(block_scale=rolled.view(part.block_scale.dtype))
        yield lambda moved=moved: unpack_tensor(moved), "The block scales are shifted by one block"  # type: ignore[misc]
        turned = part._replace(codes=np.roll(part.codes, shift, 0), block_scale=_rolled_rows(part.block_scale, shift))
        yield lambda turned=turned: unpack_tensor(turned)[1:-1], "The rows are shifted by one"  # type: ignore[misc]
    for axis, what in ((0, "rows"), (1, "columns")):
        flipped = part._replace(
            codes=np.ascontiguousarray(np.flip(part.codes, axis)),
            block_scale=np.ascontiguousarray(np.flip(part.block_scale, axis)),
        )
        yield lambda flipped=flipped: unpack_tensor(flipped), f"The {what} are in reverse order"  # type: ignore[misc]


def _rolled_rows(scales: Any, shift: int) -> Any:
    import numpy as np

    return np.roll(scales.view(np.uint8), shift, 0).view(scales.dtype)


def _factor(wanted: Floats, part: Values) -> float:
    """By what factor all values are too large; 0 where it is near 1, or scaling leaves most of the error: one damaged
    block in a sound tensor is no matter of scale."""
    import numpy as np

    from pytest_q3omni.nvfp4.codec import unpack_tensor

    stored = unpack_tensor(part)
    square = float((stored * stored).sum())
    scale = float((stored * wanted).sum()) / square if square else 0.0
    if scale <= 0 or not np.isfinite(scale) or abs(1 / scale - 1) <= _SAME_SCALE:
        return 0.0
    rescaled = _error(wanted, stored * np.float32(scale))
    return 1 / scale if rescaled < min(_FITS, _error(wanted, stored) / 2) else 0.0


def _another(subject: Subject, packed: Packed, part: Values) -> str:
    """Zeros, lost signs, a dropped bit, or another module's weight."""
    import numpy as np

    from pytest_q3omni.nvfp4.codec import unpack_tensor

    if not (part.codes & 0x77).any():
        return "All codes are zero"
    if not (part.codes & 0x88).any():
        return "No code has a sign"
    if not (part.codes & 0x11).any():
        return "No code has its lowest bit"
    first = unpack_tensor(_rows(part, slice(0, 1)))
    for other in _same_shape(subject, packed):
        raw = subject.source.read(f"{other.module}.weight", stop=2 * packed.shape[1]) if subject.source else None
        if raw is not None and _error(_bf16(raw).astype(np.float32)[None], first) < _FITS:
            return f"It is the weight of {other.module}"
    return ""


def _same_shape(subject: Subject, packed: Packed) -> list[Packed]:
    others = [other for other in subject.packed.values() if other.shape == packed.shape and other != packed]
    entries = {} if subject.source is None else subject.source.entries
    known = [other for other in others if (e := entries.get(f"{other.module}.weight")) and e.info.dtype == "BF16"]
    near = packed.module.rpartition(".mlp.")[0] or packed.module.rpartition(".self_attn.")[0]
    return sorted(known, key=lambda other: not other.module.startswith(near))[:_CANDIDATES]


def _bf16(raw: Any) -> Any:
    import ml_dtypes

    return raw.view(ml_dtypes.bfloat16)


def _error(wanted: Floats, stored: Floats) -> float:
    import numpy as np

    size = float(np.linalg.norm(wanted))
    error = float(np.linalg.norm(wanted - stored)) / size if size else float("inf")
    return error if np.isfinite(error) else float("inf")
