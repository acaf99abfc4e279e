"""Damaging a checkpoint's files in ways that nobody thought of, steered by a source of choices.

Every function takes `pick`, which gives a number below its argument: hypothesis, a seeded generator or a
coverage-guided fuzzer may be behind it.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Pick = Callable[[int], int]

WORDS = (
    *(
        "",
        ".",
        "..",
        "/",
        "../x",
        "/etc/passwd",
        "\x00",
        "\ud800",
        "\x1b[31mred",
        "\u202e",
        "line\nbreak",
        "[bold]",
        "[/]",
    ),
    *(
        "*",
        "**",
        "[",
        "[!]",
        "(?",
        "\\",
        "{",
        "re:.*",
        "re:",
        "re:(",
        "re:(?R)",
        "re:(a|a)*b",
        "re:.{9999}",
        "re:(?i:x)\\1",
    ),
    *(
        "thinker",
        "thinker.",
        "thinker.model.layers.0*",
        "model.layers",
        "lm_head",
        "talker",
        "Linear",
        "re:.*experts.*",
    ),
    *("NVFP4", "W4A16_NVFP4", "FP8", "MIXED_PRECISION", "modelopt", "compressed-tensors", "modelopt_fp4", "auto"),
    *("qwen3_moe", "qwen3_omni_moe", "qwen3_omni_moe_thinker", "llama", "bfloat16", "float32", "torch.float8_e4m3fn"),
    *(
        "float",
        "int",
        "tensor_group",
        "channel",
        "tensor",
        "local",
        "dense",
        "nvfp4-pack-quantized",
        "compressed",
        "x" * 3000,
    ),
    *("<|im_start|>", "<|im_end|>", "user", "9" * 5000, "1e999", "true", "é", "𝔘", "\xa0"),
)
NUMBERS = (
    *(0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 64, 127, 128, 255, 1000, 65536, 10**6),
    *(2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**62, 2**63, 2**64, 10**400, -1, -2, -16, -(2**63), -(10**400)),
    *(0.0, -0.0, 0.5, 1.0, 16.0, 1e-6, 1e300, -1e300, 5e-324, float("nan"), float("inf"), float("-inf")),
)
DTYPES = ("U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "BF16", "F16", "F32", "F64", "I64", "I32", "U16", "BOOL", "C64")
_BYTES = dict.fromkeys(DTYPES, 1) | {"BF16": 2, "F16": 2, "U16": 2, "F32": 4, "I32": 4, "F64": 8, "I64": 8, "C64": 8}


def chosen(pick: Pick, options: Sequence[Any]) -> Any:
    """One of the options."""
    return options[pick(len(options))]


# --- JSON


def hostile(pick: Pick) -> Any:
    """A value of any type, most of them wrong anywhere."""
    kind = pick(10)
    if kind < 3:
        return chosen(pick, NUMBERS)
    if kind < 6:
        return chosen(pick, WORDS)
    if kind == 6:
        return chosen(pick, (None, True, False))
    if kind == 7:
        return [hostile(pick) for _ in range(pick(4))]
    if kind == 8:
        return {str(chosen(pick, WORDS)): hostile(pick) for _ in range(pick(4))}
    return chosen(pick, ([], {}, [[]], [None], {"": {}}, [{}], {"content": 1, "id": "x"}, {"quant_algo": "NVFP4"}))


def mutated(value: Any, pick: Pick) -> Any:
    """The value with one of its places changed: replaced, removed, renamed, doubled, or wrapped."""
    value = copy.copy(value)
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not keys or pick(8) == 0:
        return hostile(pick)
    key = chosen(pick, keys)
    action = pick(12)
    if action < 6:
        value[key] = mutated(value[key], pick)
    elif action == 6:
        del value[key]
    elif action == 7 and isinstance(value, dict):
        value[str(chosen(pick, WORDS))] = value.pop(key)
    elif action == 8:
        value[key] = chosen(pick, ([value[key]], {"x": value[key]}, str(value[key]), bool(value[key])))
    elif action == 9:
        value[key] = value[chosen(pick, keys)]
    elif action == 10 and isinstance(value, dict):
        value[str(chosen(pick, WORDS))] = hostile(pick)
    elif isinstance(value, list):
        value.insert(key, hostile(pick))
    else:
        value[key] = hostile(pick)
    return value


def mutated_json(text: str, pick: Pick) -> bytes:
    """A JSON file, changed in its values or, now and then, in its letters."""
    value = json.loads(text)
    for _ in range(1 + pick(3)):
        value = mutated(value, pick)
    raw = json.dumps(value).encode()
    return raw if pick(6) else mutated_bytes(raw, pick)


def mutated_bytes(raw: bytes, pick: Pick) -> bytes:
    """Bytes cut, overwritten, doubled, or with something put between."""
    at = pick(len(raw) + 1)
    action, end = pick(6), min(len(raw), at + 1 + pick(40))
    if action == 0:
        return raw[:at]
    if action == 1:
        return raw[:at] + raw[end:]
    if action == 2:
        return raw[:end] + raw[at:]
    if action == 3:
        return raw[:at] + bytes(pick(256) for _ in range(end - at)) + raw[end:]
    word = chosen(
        pick, (b"1e999", b"NaN", b"-", b"[" * 2000, b'{"a":' * 2000, b"\x00", b"\xff\xfe", b'"', b",,", b"9" * 5000)
    )
    return raw[:at] + word + raw[at if action == 4 else end :]


# --- safetensors


def mutated_file(raw: bytes, pick: Pick) -> bytes:
    """A safetensors file: its header's claims changed, or a valid file around tensors that do not fit the model."""
    length = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    action = pick(8)
    if action == 0:
        return mutated_bytes(raw, pick)
    if action < 3:
        return _framed(mutated_json(json.dumps(header), pick), data, pick)
    if action == 3:
        names = list(header)
        entry = header[chosen(pick, names)]
        entry[chosen(pick, ("dtype", "shape", "data_offsets"))] = hostile(pick)
        return _framed(json.dumps(header).encode(), data, pick)
    return rebuilt(header, data, pick)


def _framed(text: bytes, data: bytes, pick: Pick) -> bytes:
    lengths = (
        len(text),
        len(text),
        len(text),
        len(text),
        0,
        len(text) - 1,
        len(text) + len(data) + 1,
        2**63,
        2**64 - 1,
    )
    return (chosen(pick, lengths) % 2**64).to_bytes(8, "little") + text + data


def rebuilt(header: dict[str, Any], data: bytes, pick: Pick) -> bytes:
    """A valid file in which some tensors have other names, dtypes, shapes or values."""
    header = {name: dict(claim) for name, claim in header.items() if name != "__metadata__"}
    contents = {name: data[slice(*claim["data_offsets"])] for name, claim in header.items()}
    for _ in range(1 + pick(5)):
        if not header:
            break
        name = chosen(pick, list(header))
        action = pick(6)
        if action == 0:
            del header[name], contents[name]
        elif action == 1:
            new = _renamed(name, list(header), pick)
            header[new], contents[new] = header.pop(name), contents.pop(name)
        elif action == 2:
            contents[name] = _filled(len(contents[name]), pick)
        else:
            dtype = chosen(pick, DTYPES) if action > 3 else header[name]["dtype"]
            shape = _shape(header[name]["shape"], pick)
            count = _BYTES.get(dtype, 1)
            for size in shape:
                count *= size
            if count <= 1 << 20:
                header[name] = {"dtype": dtype, "shape": shape}
                contents[name] = _filled(count, pick)
    position = 0
    for name, claim in header.items():
        claim["data_offsets"] = [position, position + len(contents[name])]
        position += len(contents[name])
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(contents[name] for name in header)


def _renamed(name: str, names: list[str], pick: Pick) -> str:
    module, _, end = name.rpartition(".")
    ends = ("weight", "weight_packed", "weight_scale", "weight_scale_2", "weight_global_scale", "input_scale", "bias")
    ends += ("input_global_scale", "k_scale", "v_scale", "pre_quant_scale", "_amax", "")
    other = chosen(pick, names).rpartition(".")[0]
    odd = chosen(pick, ("\n", ".", "..", "\x1b[2J"))
    options = (f"{module}.{chosen(pick, ends)}", f"{other}.{end}", f"{module}{odd}.{end}", module, f"thinker.{name}")
    return str(chosen(pick, (*options, name.removeprefix("thinker."), f"{chosen(pick, WORDS[:7])}.{end}")))


def _filled(size: int, pick: Pick) -> bytes:
    return bytes([chosen(pick, (0, 0xFF, 0x7F, 0x80, 0x7E, 1, pick(256)))]) * size


def _shape(shape: list[int], pick: Pick) -> list[int]:
    shape = list(shape)
    action = pick(6)
    if action == 0:
        return shape[::-1]
    if action == 1:
        return [*shape, 1]
    if action == 2:
        return shape[1:]
    if action == 3:
        return [chosen(pick, (2**61, 2**40, 2**31)), 0]
    return [chosen(pick, (0, 1, 2, 8, 15, 16, 24, 64, 128, size)) for size in shape] or [chosen(pick, (0, 1, 2, 16))]


# --- directories


def mutate_file(directory: Path, name: str, pick: Pick) -> None:
    """Damage one file of a checkpoint in place."""
    file = directory / name
    if pick(12) == 0:
        exchange_kind(file, pick)
    elif name.endswith(".safetensors"):
        file.write_bytes(mutated_file(file.read_bytes(), pick))
    elif name.endswith(".json"):
        file.write_bytes(mutated_json(file.read_text(), pick))
    else:
        file.write_bytes(mutated_bytes(file.read_bytes(), pick))
    record = directory / "q3omni"
    if name.startswith("q3omni") and pick(4) and all(_is_small(each) for each in record.iterdir()):
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            content = json.loads((record / "record.json").read_text())
            content["sha256"] = hashlib.sha256((record / "record.safetensors").read_bytes()).hexdigest()
            (record / "record.json").write_text(json.dumps(content))


def _is_small(file: Path) -> bool:
    return file.is_file() and file.stat().st_size < 1 << 24


def exchange_kind(file: Path, pick: Pick) -> None:
    """Put something in the file's place that is no file of the checkpoint."""
    raw = file.read_bytes()
    file.unlink()
    action = pick(9)
    if action == 0:
        file.mkdir()
    elif action == 1:
        os.mkfifo(file)
    elif action == 2:
        file.symlink_to("/dev/zero")
    elif action == 3:
        file.symlink_to(file.name)
    elif action == 4:
        file.symlink_to("nowhere")
    elif action == 5:
        file.symlink_to("/etc/passwd")
    elif action == 6:
        file.write_bytes(b"")
    elif action == 7:
        with file.open("wb") as stream:
            stream.write(raw[: pick(len(raw) + 1)])
            stream.truncate(1 << 40)
    else:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as end:  # a path may be too long for one
            end.bind(str(file))


def files_of(directory: Path) -> list[str]:
    """The files that can be damaged, sorted."""
    return sorted(str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file())


def damaged_copy(sound: Path, place: Path, names: Sequence[str], pick: Pick) -> None:
    """A copy of the checkpoint in `place`, whatever was there before, with one to three of its files damaged."""
    if place.exists():
        shutil.rmtree(place)
    shutil.copytree(sound, place, symlinks=True)
    for name in {chosen(pick, names) for _ in range(1 + pick(3))}:
        mutate_file(place, name, pick)
