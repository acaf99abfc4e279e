"""Damaging a copy of a sound checkpoint: what the fault files are written with.

Containers stay valid unless a fault is about the container: tensors are laid out again by the package's own `layout`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from pytest_q3omni.calibrate.record import load_record, save_record
from pytest_q3omni.nvfp4 import pack_tensor
from pytest_q3omni.omni.checkpoint import INDEX, SINGLE, Checkpoint, scan
from pytest_q3omni.omni.safetensors_file import layout
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.records import TensorInfo

Array = NDArray[Any]

LAYER = "thinker.model.layers.0"
OTHER_LAYER = "thinker.model.layers.1"
EXPERT = f"{LAYER}.mlp.experts.3"
ATTENTION = f"{OTHER_LAYER}.self_attn"
CONFIG = "config.json.quantization_config"
COMPRESSED = ("weight_packed", "weight_scale", "weight_global_scale", "input_global_scale")
GROUP = f"{CONFIG}.config_groups.group_0"

_DTYPES = {
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float32": "F32",
    "float16": "F16",
    "uint8": "U8",
    "float8_e5m2": "F8_E5M2",
    "int8": "I8",
    "int32": "I32",
}


@dataclass(frozen=True)
class Fault:
    """One way to damage a checkpoint.

    check: the check that must trip, and no other. where: part of the place that its finding must name.
    group: the class in the catalogue. base: the sound checkpoint to start from.
    given: what the judge gets beside it. alone: it finds the fault without any of that, too.
    severity: of the findings; a warning leaves every verdict alone.
    """

    check: str
    where: str
    group: str
    break_: Callable[[Path], None]
    base: str = "nvfp4-default"
    given: tuple[str, ...] = ("source", "record")
    alone: bool = True
    severity: str = "error"


def read(directory: Path, name: str) -> Array:
    """A tensor of the checkpoint, writable."""
    return scan(directory).array(name).copy()


def original(name: str) -> Array:
    """A tensor of the BF16 original."""
    return scan(checkpoint_path()).array(name)


def module_tensors(directory: Path, module: str) -> dict[str, Array]:
    """Suffix -> tensor, of all tensors of a packed module."""
    checkpoint = scan(directory)
    names = [name for name in checkpoint.entries if name.startswith(f"{module}.")]
    return {name.removeprefix(f"{module}."): checkpoint.array(name) for name in names}


def write(directory: Path, changes: Mapping[str, Array | None]) -> None:
    """Replace, add (to the first shard) or remove (None) tensors; an index follows."""
    checkpoint = scan(directory)
    home = checkpoint.files[0].name
    for file in checkpoint.files:
        here = {name for name, entry in checkpoint.entries.items() if entry.file == file}
        new = {name for name in changes if name not in checkpoint.entries and file.name == home}
        if not (here | new) & changes.keys():
            continue
        kept = {name: checkpoint.array(name) for name in here - changes.keys()}
        added = {name: changes[name] for name in (here | new) & changes.keys() if changes[name] is not None}
        write_file(file, {**kept, **added})
    if (directory / INDEX).exists():
        edit_json(directory, INDEX, lambda index: _follow(index, scan(directory)))


def _follow(index: dict[str, Any], checkpoint: Checkpoint) -> None:
    index["weight_map"] = {name: entry.file.name for name, entry in checkpoint.entries.items()}
    index["metadata"] = {"total_size": sum(entry.end - entry.begin for entry in checkpoint.entries.values())}


def write_file(file: Path, tensors: Mapping[str, Array]) -> None:
    """Write one safetensors file."""
    infos = [TensorInfo(name, _DTYPES[array.dtype.name], array.shape) for name, array in tensors.items()]
    planned = layout(infos)
    file.write_bytes(planned.header + b"".join(tensors[info.name].tobytes() for info in planned.tensors))


def edit_json(directory: Path, file: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file in place."""
    content = json.loads((directory / file).read_text())
    change(content)
    (directory / file).write_text(json.dumps(content, indent=2))


def edit_quantization(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change `quantization_config` in config.json."""
    edit_json(directory, "config.json", lambda config: change(config["quantization_config"]))


def edit_header(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the JSON header of `model.safetensors`; the data stay where they are."""
    file = directory / SINGLE
    raw = file.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    change(header)
    replace_header(file, json.dumps(header).encode())


def replace_header(file: Path, text: bytes) -> None:
    """Another header text before the same data."""
    raw = file.read_bytes()
    data = raw[8 + int.from_bytes(raw[:8], "little") :]
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


def edit_record(directory: Path, **changes: Any) -> None:
    """Change fields of the checkpoint's own calibration record."""
    place = directory / "q3omni"
    record = replace(load_record(place), **changes)
    for file in ("record.json", "record.safetensors"):
        (place / file).unlink()
    moved = place / "changed"
    save_record(record, moved)
    for file in moved.iterdir():
        shutil.move(file, place / file.name)
    moved.rmdir()


def pack(
    directory: Path, module: str, weight: Array, *, declare: bool = False, input_scale: float | None = None
) -> None:
    """Store a module packed, with a global scale of its own; `declare` lists it in quantized_layers."""
    packed = pack_tensor(weight)
    changes: dict[str, Array | None] = {
        f"{module}.weight": packed.codes,
        f"{module}.weight_scale": packed.block_scale,
        f"{module}.weight_scale_2": np.array(packed.global_scale),
    }
    if input_scale is not None:
        changes[f"{module}.input_scale"] = np.array(input_scale, np.float32)
    write(directory, changes)
    if declare:
        edit_quantization(directory, lambda block: _declare(block, module, input_scale is not None))


def _declare(block: dict[str, Any], module: str, w4a4: bool) -> None:
    entry = {"quant_algo": "NVFP4" if w4a4 else "W4A16_NVFP4", "group_size": 16}
    block["quantized_layers"][module] = entry
    block["ignore"] = [item for item in block["ignore"] if not module.startswith(item.rstrip("*"))]


def unpack(directory: Path, module: str) -> None:
    """Store a module as the BF16 original has it."""
    scales = [f"{module}.{suffix}" for suffix in ("weight_scale", "weight_scale_2", "input_scale")]
    write(directory, {f"{module}.weight": original(f"{module}.weight"), **dict.fromkeys(scales)})


def exchange(directory: Path, first: str, second: str) -> None:
    """Exchange all tensors of two modules; what both have."""
    left, right = module_tensors(directory, first), module_tensors(directory, second)
    write(
        directory,
        {f"{first}.{name}": right[name] for name in right} | {f"{second}.{name}": left[name] for name in left},
    )


def scaled(directory: Path, names: list[str], factor: float) -> None:
    """Multiply scalars by a factor."""
    write(directory, {name: (read(directory, name) * np.float32(factor)).astype(np.float32) for name in names})


def bfloat16(values: Any) -> Array:
    """As BF16."""
    result: Array = np.asarray(values).astype(ml_dtypes.bfloat16)
    return result


def write_header(directory: Path, text: bytes, *, data: bytes = b"") -> None:
    """`model.safetensors` anew: a header text of one's own, before any data."""
    (directory / SINGLE).write_bytes(len(text).to_bytes(8, "little") + text + data)


def edit_group(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the first of compressed-tensors' `config_groups`."""
    edit_quantization(directory, lambda block: change(block["config_groups"]["group_0"]))


def unpack_compressed(directory: Path, module: str) -> None:
    """Store a module of compressed-tensors' layout as the BF16 original has it."""
    gone = [f"{module}.{suffix}" for suffix in COMPRESSED]
    write(directory, {**dict.fromkeys(gone), f"{module}.weight": original(f"{module}.weight")})


def edit_card(directory: Path, change: Callable[[str], str]) -> None:
    """Change the text of the model card."""
    file = directory / "README.md"
    text = file.read_text()
    changed = change(text)
    assert changed != text, "the card has changed, and this fault with it"
    file.write_text(changed)


def write_card(directory: Path, claim: str) -> None:
    """A foreign card that claims something."""
    (directory / "README.md").write_text(f"---\nlicense: apache-2.0\n---\n\n# A quantized Qwen3-Omni\n\n{claim}\n")
