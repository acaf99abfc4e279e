"""A packed checkpoint cut to its first layers, and its BF16 twin: the same weights, without the number format.

An engine that computes with packed weights as the format says must answer like the twin. Both are written piece by
piece, into files named as the source's; nothing holds more than a few pieces of 64 MiB.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_q3omni.engines.packed import declared_layout, packed_modules
from pytest_q3omni.errors import Inconsistent, InvalidRequest, Unreadable, Unwritable
from pytest_q3omni.layouts import Suffixes, suffixes
from pytest_q3omni.omni.checkpoint import CONFIG, INDEX, Checkpoint, numpy_dtype
from pytest_q3omni.omni.companions import QUANT_CONFIG, companion_files
from pytest_q3omni.omni.config import MAX_CONFIG_BYTES, read_json
from pytest_q3omni.omni.durable import check_new_directory, publish, unwritable
from pytest_q3omni.omni.safetensors_file import layout, nbytes
from pytest_q3omni.omni.untrusted_files import read_at_most
from pytest_q3omni.records import TensorInfo
from pytest_q3omni.serve.controls import Packed, Taken, spoiled
from pytest_q3omni.serve.depth import check_depth, cut_config, cut_declaration, kept_tensors

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PIECE = 64 << 20
_FLOATS = ("BF16", "F32", "F16")

Pieces = Callable[[TensorInfo], Iterator["NDArray[Any]"]]
"""The elements of one tensor that is to be written, in order, in pieces."""


def write_cut(
    source: Checkpoint,
    out: Path,
    *,
    layers: int | None = None,
    control: str | None = None,
    layer: int = 0,
    weight_only: bool = False,
) -> None:
    """Write the thinker's first `layers` layers (all where None) into the new directory `out`, as they are packed.

    What is left is the same byte for byte, but for what `control` (see `controls.CONTROLS`) does to `layer`.
    weight_only: without input scales, and declared so. An engine with kernels for W4A4 then computes with the packed
    weights alone, which is what a twin can be compared with.

    Raises:
        UnknownName, InvalidRequest: no such control, none of its kind in that layer; no such number of layers; `out`
            holds something; nothing is packed in these layers; a checkpoint on a hub.
        Unreadable, Inconsistent: the checkpoint contradicts itself, or a companion is no small file of its own.
        Unwritable: no space, no permission. `out` is then as it was.
    """
    depth = _checked(source, layers)
    names, modules = kept_tensors(source, depth), packed_modules(source)
    used = declared_layout(source)
    ends = suffixes(used)
    unused = {f"{module}.{ends.input_scale}" for module in modules} if weight_only else set()
    tensors = {name: source.entries[name].info for name in names if name not in unused}
    left = {module for module in modules if f"{module}.{ends.codes}" in tensors}
    if not left:
        raise InvalidRequest(
            f"nothing is packed in its first {depth} layers", where=str(source.path), expected="NVFP4 weights",
            fix="name a checkpoint that `q3omni quantize` made, or take more layers",
        )  # fmt: skip
    taken = {name: Taken(info, info) for name, info in tensors.items()}
    if control is not None:
        taken |= spoiled(control, Packed(tensors, left, used), layer)
    configs = {CONFIG: cut_config(source.config, depth, weight_only=weight_only)}
    if (source.path / QUANT_CONFIG).exists():
        second = read_json(source.path / QUANT_CONFIG)
        configs[QUANT_CONFIG] = cut_declaration(second, depth, weight_only=weight_only)
    _write(source, out, tensors.values(), lambda info: _copied(source, taken[info.name]), configs)


def write_twin(source: Checkpoint, out: Path, *, layers: int | None = None) -> None:
    """Write the same layers in BF16, unquantized, into the new directory `out`: what the packed weights stand for.

    A weight is code x block scale x global scale, computed in float32 and rounded to BF16 once (to nearest, ties to
    even). That costs at most 2^-8 of a weight (0.4 %; 0.16 % root mean square), a sixtieth of what NVFP4 itself costs
    (9.5 %). Marlin computes with code x block scale, which BF16 holds exactly, and applies the global scale to the
    product: so the two differ by this rounding, and by the order of their sums.

    Raises:
        InvalidRequest, Unreadable, Unwritable: as `write_cut`.
        Inconsistent: a weight that is neither NVFP4 nor a plain float, or a quantized KV cache: BF16 holds the weights
            alone, so the twin would differ in more than the format. Or a scale that is no number; named.
    """
    depth = _checked(source, layers)
    modules, used = packed_modules(source), declared_layout(source)
    ends = suffixes(used)
    block = source.config.get("quantization_config")
    if isinstance(block, Mapping) and used.declared(block).kv_cache:
        raise _no_twin("a quantized KV cache", str(source.path))
    packed: dict[str, str] = {}
    tensors: list[TensorInfo] = []
    parts = {f"{module}.{end}" for module in modules for end in ends}
    for name in kept_tensors(source, depth):
        info, module = source.entries[name].info, name.removesuffix(f".{ends.codes}")
        if name not in parts:
            if info.dtype not in _FLOATS:
                raise _no_twin(f"dtype {info.dtype}", name)
            tensors.append(info)
        elif module in modules:
            rows, half = info.shape
            weight = TensorInfo(f"{module}.weight", "BF16", (rows, 2 * half))
            packed[weight.name] = module
            tensors.append(weight)
    config = {key: value for key, value in cut_config(source.config, depth).items() if key != "quantization_config"}

    def pieces(info: TensorInfo) -> Iterator[NDArray[Any]]:
        if info.name in packed:
            return _dequantized(source, packed[info.name], ends, used.inverted)
        return _copied(source, Taken(info, info))

    _write(source, out, tensors, pieces, {CONFIG: config}, {name: f"{m}.{ends.codes}" for name, m in packed.items()})


def _no_twin(found: str, where: str) -> Inconsistent:
    return Inconsistent(
        found, where=where, expected="NVFP4 weights beside plain ones, which BF16 can stand for",
        fix="compare a checkpoint whose only numbers beside BF16 are NVFP4 weights",
    )  # fmt: skip


def _checked(source: Checkpoint, layers: int | None) -> int:
    if not source.holds_weights:
        found = "a checkpoint on a hub, of which weights are never fetched"
        raise InvalidRequest(found, where=str(source.path), expected="a directory", fix="download it")
    return check_depth(source, layers)


def _copied(source: Checkpoint, taken: Taken) -> Iterator[NDArray[Any]]:
    """A tensor as its source has it, changed where a control says so."""
    total, dtype = nbytes(taken.source), numpy_dtype(taken.source.dtype)
    for start in range(0, total, _PIECE):
        values = source.read(taken.source.name, start=start, stop=min(total, start + _PIECE)).view(dtype)
        yield values if taken.change is None else taken.change(values)


def _dequantized(source: Checkpoint, module: str, ends: Suffixes, inverted: bool) -> Iterator[NDArray[Any]]:
    """A packed weight as BF16, some rows at a time."""
    import ml_dtypes
    import numpy as np

    from pytest_q3omni.nvfp4 import Packed as PackedTensor
    from pytest_q3omni.nvfp4 import unpack_tensor

    codes, scales = f"{module}.{ends.codes}", f"{module}.{ends.block_scale}"
    given = source.array(f"{module}.{ends.global_scale}").astype(np.float32).reshape(-1)
    if given.size != 1 or not (np.isfinite(given[0]) and given[0] > 0):
        raise Inconsistent(
            f"{given[0] if given.size else 'no number'}", where=f"{module}.{ends.global_scale}",
            expected="one finite number above 0", fix="pack again",
        )  # fmt: skip
    total = np.float32(1) / given[0] if inverted else given[0]
    rows, half = source.entries[codes].info.shape
    wide = source.entries[scales].info.shape
    if wide != (rows, half // 8):
        raise Inconsistent(f"shape {list(wide)}", where=scales, expected=f"{[rows, half // 8]}", fix="pack again")
    step = max(1, _PIECE // (8 * half))  # a float32 takes eight times the byte's half that its code takes
    for first in range(0, rows, step):
        last = min(rows, first + step)
        part = PackedTensor(
            source.read(codes, start=first * half, stop=last * half).reshape(-1, half),
            source.read(scales, start=first * wide[1], stop=last * wide[1])
            .view(ml_dtypes.float8_e4m3fn)
            .reshape(-1, wide[1]),
            total,
        )
        with np.errstate(over="ignore"):
            yield unpack_tensor(part, where=module).astype(ml_dtypes.bfloat16)


def _write(
    source: Checkpoint,
    out: Path,
    tensors: Iterable[TensorInfo],
    pieces: Pieces,
    configs: Mapping[str, Mapping[str, Any]],
    renamed: Mapping[str, str] | None = None,
) -> None:
    """Write files, companions and configs, then let them appear as `out`. renamed: target -> source where they differ.

    Nothing is synced to disk: whoever lost it to a power cut makes it again.
    """
    files: dict[str, list[TensorInfo]] = defaultdict(list)
    for info in tensors:
        files[source.entries[(renamed or {}).get(info.name, info.name)].file.name].append(info)
    check_new_directory(out, "OUT")
    with _staged(out) as stage:
        _check_space(stage, sum(nbytes(info) for infos in files.values() for info in infos))
        for name, infos in files.items():
            _write_file(stage / name, infos, pieces)
        if len(files) > 1:
            index = {info.name: name for name, infos in files.items() for info in infos}
            total = sum(nbytes(info) for infos in files.values() for info in infos)
            _write_json(stage / INDEX, {"metadata": {"total_size": total}, "weight_map": dict(sorted(index.items()))})
        for file in companion_files(source.path):
            (stage / file.name).write_bytes(_small(file))
        for name, config in configs.items():
            _write_json(stage / name, config)
        publish(stage, out)


def _write_file(file: Path, infos: Iterable[TensorInfo], pieces: Pieces) -> None:
    planned = layout(infos)
    with file.open("wb") as stream:
        stream.write(planned.header)
        for info in planned.tensors:
            for piece in pieces(info):
                stream.write(piece.reshape(-1).view("uint8").data)


def _write_json(file: Path, value: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _small(file: Path) -> bytes:
    content = read_at_most(file, MAX_CONFIG_BYTES)
    if content is None:
        fix = "take it out of the checkpoint"
        raise Unreadable(f"more than {MAX_CONFIG_BYTES:,} bytes", where=str(file), expected="a small file", fix=fix)
    return content


def _check_space(stage: Path, needed: int) -> None:
    free = shutil.disk_usage(stage).free
    if needed > free:
        raise Unwritable(
            f"{free / 1e6:,.1f} MB free", where=str(stage.parent), expected=f"{needed / 1e6:,.1f} MB for the weights",
            fix="free disk space, choose another place, or fewer layers",
        )  # fmt: skip


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """A directory beside `out` to work in; gone where the work fails."""
    stage = out.with_name(f".{out.name}.q3omni-partial")
    try:
        shutil.rmtree(stage, ignore_errors=True)  # of a run that was killed
        stage.mkdir(parents=True)
        yield stage
    except OSError as error:
        raise unwritable(error, Path(error.filename or out)) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
