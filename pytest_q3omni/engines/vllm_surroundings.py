"""What torch and vLLM say of the machine, each asked in a process of the interpreter that has it.

A torch that crashes at import, or a vLLM that was built for another torch, ends that process and not ours: the reason
becomes part of the answer. Which architectures vLLM's libraries hold code for is read from their files here, whether it
can be imported or not.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_q3omni.engines.cuda_code import Code, parse_code, read_units
from pytest_q3omni.engines.engine_process import end, environment, how_it_ended, last_words
from pytest_q3omni.engines.machine import Device
from pytest_q3omni.errors import FormatError

INSIDE = Path(__file__).with_name("vllm_inside")
SECONDS = 300.0
"""How long one interpreter may take. Importing vLLM takes 5 s from a fast disk, a minute from a slow one."""

_MOST_LIBRARIES, _MOST_BYTES, _LONGEST = 64, 4_000_000, 500
_KERNELS = ("_C.", "_C_stable", "_moe_C")
"""Libraries that every model needs; the others serve some GPUs or some models."""


@dataclass(frozen=True)
class ExpertShapes:
    """The experts of one layer. width: features between gate/up and down."""

    experts: int
    experts_per_token: int
    width: int
    hidden: int


@dataclass(frozen=True)
class TorchBuild:
    """torch in one interpreter. architectures: that it holds code for. trouble: why it, or CUDA in it, does not work.

    broken: maps the number of a device to what went wrong when it was to add two numbers.
    """

    python: str
    version: str = ""
    cuda: str = ""
    architectures: tuple[Code, ...] = ()
    devices: tuple[Device, ...] = ()
    broken: Mapping[int, str] = field(default_factory=dict)
    trouble: str = ""


@dataclass(frozen=True)
class VLLMBuild:
    """vLLM in one interpreter.

    units: code of every compiled source file of its own kernels, () where it was built without CUDA. unread: libraries
    whose code is not known. kernels: "w4a4 linear" -> what vLLM itself chooses here; refused: why it chooses none.
    tuning: name of the file with tuned settings for BF16 experts, and where it is; "" for nowhere.
    """

    python: str
    version: str = ""
    platform: str = ""
    flashinfer: str = ""
    units: tuple[frozenset[Code], ...] = ()
    unread: tuple[str, ...] = ()
    kernels: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    tuning: tuple[str, str] = ("", "")
    trouble: str = ""

    @property
    def codes(self) -> frozenset[Code]:
        return frozenset().union(*self.units)


def ask_torch(python: Path | None = None, *, seconds: float = SECONDS) -> TorchBuild:
    """torch in an interpreter, by default this one. Never raises."""
    python = python or Path(sys.executable)
    content, trouble = _asked(python, {"vllm": False}, seconds)
    return _torch(python, content, trouble)


def ask_vllm(python: Path, shapes: ExpertShapes, *, seconds: float = SECONDS) -> tuple[TorchBuild, VLLMBuild]:
    """vLLM in an interpreter, and the torch that it runs with. Never raises."""
    asked = {"vllm": True, "experts": shapes.experts, "experts_per_token": shapes.experts_per_token}
    content, trouble = _asked(python, {**asked, "width": shapes.width, "hidden": shapes.hidden}, seconds)
    return _torch(python, content, trouble), _vllm(python, content, trouble)


def _asked(python: Path, request: Mapping[str, Any], seconds: float) -> tuple[Mapping[str, Any], str]:
    """(the answer, why there is none)."""
    with tempfile.TemporaryDirectory(prefix="q3omni-doctor-", ignore_cleanup_errors=True) as folder:
        question, answer, log = (Path(folder) / name for name in ("request.json", "answer.json", "log.txt"))
        question.write_text(json.dumps(request), encoding="utf-8")
        try:
            with log.open("wb") as stream:
                process = subprocess.Popen(
                    [python, INSIDE, "doctor", question, answer], stdin=subprocess.DEVNULL, stdout=stream,
                    stderr=stream, cwd=folder, env=environment(python), start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            return {}, f"cannot be started ({error.strerror})"
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return {}, f"no answer within {seconds:g} s. Its last lines: {last_words(log)}"
        finally:
            end(process)
        with suppress(OSError, ValueError):
            if not process.returncode and answer.stat().st_size <= _MOST_BYTES:
                content = json.loads(answer.read_text(encoding="utf-8"))
                return (content, "") if isinstance(content, dict) else ({}, "an answer that is none")
        return {}, f"its process {how_it_ended(process.returncode)}. Its last lines: {last_words(log)}"


def _torch(python: Path, content: Mapping[str, Any], trouble: str) -> TorchBuild:
    nothing = TorchBuild(str(python), trouble=_short(trouble))
    try:
        part = content["torch"] if not trouble else {}
        if "answer" not in part:
            return replace(nothing, trouble=nothing.trouble or _short(part["error"]))
        found = part["answer"]
        codes = tuple(code for code in map(parse_code, found["architectures"]) if code is not None)
        devices = tuple(_device(number, each) for number, each in enumerate(found["devices"]))
        broken = {number: _short(each["trouble"]) for number, each in enumerate(found["devices"]) if each["trouble"]}
        told = _short(found["trouble"])
        return TorchBuild(str(python), str(found["version"]), str(found["cuda"]), codes, devices, broken, told)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return replace(nothing, trouble=nothing.trouble or f"an answer that is none ({type(error).__name__})")


def _device(number: int, found: Mapping[str, Any]) -> Device:
    major, minor = found["capability"]
    sizes = [None if found[name] is None else int(found[name]) for name in ("total", "free")]
    return Device(number, str(found["name"]), (int(major), int(minor)), sizes[0], sizes[1], found["unified"])


def _vllm(python: Path, content: Mapping[str, Any], trouble: str) -> VLLMBuild:
    nothing = VLLMBuild(str(python), trouble=_short(trouble))
    try:
        if trouble:
            return nothing
        units, unread = _libraries(Path(content["folder"])) if content["folder"] else ((), ())
        held = replace(nothing, version=str(content.get("version", "")), units=units, unread=unread)
        if "answer" not in content["vllm"]:
            return replace(held, trouble=_short(content["vllm"]["error"]))
        found = content["vllm"]["answer"]
        asked = _chosen(found.get("kernels", {}))
        tuning = found.get("tuning", {}).get("answer", {})
        return replace(
            held, version=str(found["version"]), platform=str(found["platform"]), flashinfer=str(found["flashinfer"]),
            kernels=asked[0], refused=asked[1], tuning=(str(tuning.get("name", "")), str(tuning.get("found", ""))),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return replace(nothing, trouble=f"an answer that is none ({type(error).__name__})")


def _chosen(kernels: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    if "error" in kernels:
        return {}, {"kernels": _short(kernels["error"])}
    chosen, refused = {}, {}
    for numerics, kinds in kernels.get("answer", {}).items():
        for kind, each in kinds.items():
            if "answer" in each:
                chosen[f"{numerics} {kind}"] = str(each["answer"])
            else:
                refused[f"{numerics} {kind}"] = _short(each["error"])
    return chosen, refused


def _libraries(folder: Path) -> tuple[tuple[frozenset[Code], ...], tuple[str, ...]]:
    """Code of vLLM's own kernels, and the libraries of which it is not known."""
    units: list[frozenset[Code]] = []
    unread: list[str] = []
    for file in sorted(folder.glob("*.so"))[:_MOST_LIBRARIES]:
        if file.name.startswith(_KERNELS):
            try:
                units += read_units(file)
            except (FormatError, OSError) as error:
                unread.append(f"{file.name} ({_short(getattr(error, 'found', None) or error)})")
    return tuple(units), tuple(unread)


def _short(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."
