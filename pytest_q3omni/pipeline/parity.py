"""Parity of two checkpoints: opens the engines that the comparison asks for, one after the other."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pytest_q3omni import __version__
from pytest_q3omni.engines.answers import logprobs
from pytest_q3omni.engines.handle import ModelHandle
from pytest_q3omni.engines.modelopt import PACKAGE, modelopt_version
from pytest_q3omni.engines.packed import as_bf16, file_numerics, input_scales, packed_modules
from pytest_q3omni.engines.plain_nvfp4 import PlainNVFP4
from pytest_q3omni.engines.speech import speech_logprobs
from pytest_q3omni.errors import Incomplete, Inconsistent, InvalidRequest
from pytest_q3omni.omni.checkpoint import Checkpoint, open_checkpoint
from pytest_q3omni.omni.conversations import Conversation
from pytest_q3omni.omni.extras import missing_extra
from pytest_q3omni.omni.naming import experts_module, fused_group, input_site
from pytest_q3omni.omni.stages import expected_tensors, stage_of
from pytest_q3omni.parity.compare import Contestants, PlainEngine, compare
from pytest_q3omni.parity.logits import Target
from pytest_q3omni.parity.speech import Spoken
from pytest_q3omni.records import Numerics, Parity, Progress, TensorInfo, TensorPlan, no_progress

_NEEDS = {"torch": "torch>=2.11", "transformers": "transformers>=5.16,<5.20", "scipy": "scipy>=1.11"}
_NEEDS_PACKED = {"requests": "requests>=2.32"}  # ModelOpt imports it and does not say so


def compare_checkpoints(
    original: Path,
    quantized: Path,
    conversations: Sequence[Conversation],
    *,
    numerics: Sequence[Numerics] = (),
    device: str | None = None,
    progress: Progress = no_progress,
) -> Parity:
    """How the checkpoint answers beside its original, on transformers.

    numerics: in which numbers the checkpoint runs; without it in all that its files are made for.

    Raises:
        InvalidRequest: no conversations, the original is packed itself, or numerics that the checkpoint has not.
        Inconsistent, Incomplete: see `contestants`.
        MissingDependency: the `quantize` extra is not installed.
        EngineError, Unreadable: a model cannot be loaded or run.
    """
    if not conversations:
        raise InvalidRequest("no conversations", expected="one at least", fix="pass --conversations FILE.jsonl")
    device = device or ModelHandle(original).device
    engines = contestants(original, quantized, numerics=numerics, device=device)
    check_packages(packed="bf16" not in engines.quantized)
    return compare(engines, conversations, device=_device_name(device), versions=versions(), progress=progress)


def check_packages(*, packed: bool) -> None:
    """Return if all that a comparison imports is installed: it may run for an hour before it needs the last of it.

    packed: whether something is, so that plain NVFP4 of it is measured, which is ModelOpt's.

    Raises:
        MissingDependency: names the package and the extra.
    """
    for name, release in {**_NEEDS, **(_NEEDS_PACKED if packed else {})}.items():
        if find_spec(name) is None:
            raise missing_extra(release, "comparing answers", ModuleNotFoundError(f"No module named '{name}'"))
    if packed:
        modelopt_version()


def contestants(
    original: Path, quantized: Path, *, numerics: Sequence[Numerics] = (), device: str | None = None
) -> Contestants:
    """The engines of one comparison; none is open yet.

    Raises:
        InvalidRequest: the original is packed itself, or numerics that the checkpoint has not.
        Inconsistent: a packed module that the original does not have, or experts of which only some have input scales.
        Incomplete: the checkpoint lacks tensors that the original has.
    """
    source, target = open_original(original), open_checkpoint(quantized)
    packed = packed_modules(target)
    scales = input_scales(target, packed)
    tensors = packed_tensors(source, packed, scales)
    bf16 = ModelHandle(original, device=device)
    asked = {
        name: ModelHandle(quantized, numerics=name, device=bf16.device)
        for name in numerics or _numerics(file_numerics(target, packed))
    }
    _check_complete(source, target, speech=bf16.speaks and all(engine.speaks for engine in asked.values()))
    _check_experts(source, scales)

    def plain(targets: Sequence[Target], spoken: Sequence[Spoken]) -> PlainEngine:
        heard = spoken if any(each.stage != "thinker" for each in tensors if each.action == "nvfp4") else ()
        return PlainNVFP4(original, tensors, _calibration(bf16, targets, heard), device=bf16.device)

    return Contestants(
        original=bf16,
        repeat=ModelHandle(original, device=bf16.device, attention="eager"),
        plain=plain,
        quantized=asked,
        input_scales=scales,
    )


def open_original(path: Path) -> Checkpoint:
    """The checkpoint that the other one is measured against.

    Raises:
        InvalidRequest: it is packed itself. Unreadable: there is none.
    """
    source = open_checkpoint(path)
    if packed_modules(source):
        raise InvalidRequest("the original is packed", where=str(path), expected="the BF16 original",
                             fix="name the original first, then the quantized checkpoint")  # fmt: skip
    return source


def _numerics(made_for: Numerics) -> tuple[Numerics, ...]:
    """A checkpoint for W4A4 is served in W4A16 as well, by engines on Hopper."""
    return ("w4a16", "w4a4") if made_for == "w4a4" else (made_for,)


def packed_tensors(source: Checkpoint, packed: Collection[str], scaled: Collection[str]) -> list[TensorPlan]:
    """The original's tensors, with what the checkpoint packs of them.

    scaled: the packed modules that have an input scale; of the others only the weight is rounded.

    Raises:
        Inconsistent: the original has no weight of a packed module.
    """
    missing = sorted(module for module in packed if f"{module}.weight" not in source.entries)
    if missing:
        raise Inconsistent(
            f"{len(missing):,} packed modules are not in the original, the first: {missing[0]}",
            where=str(source.path), expected="the original of this checkpoint",
            fix="pass the model that it was made from",
        )  # fmt: skip
    return [_tensor(info, packed, scaled) for info in source.tensors]


def _tensor(info: TensorInfo, packed: Collection[str], scaled: Collection[str]) -> TensorPlan:
    module, stage = info.name.removesuffix(".weight"), stage_of(info.name)
    name = stage.name if stage else ""
    part = stage.part(info.name).name if stage else ""
    if module not in packed:
        return TensorPlan(info, name, part, "keep", (info,))
    site = input_site(module) if module in scaled else ""
    return TensorPlan(info, name, part, "nvfp4", (), fused_group(module), site)


def _check_complete(source: Checkpoint, target: Checkpoint, *, speech: bool) -> None:
    """Refuse a checkpoint that lacks tensors: its model opens last, after all others were asked.

    speech: whether it will be asked for speech; otherwise its thinker alone is loaded.
    """
    described = expected_tensors(target.config, f"{target.path}: config.json")
    names = (tensor.name for tensor in described if speech or tensor.name.startswith("thinker."))
    stored = as_bf16(target, packed_modules(target))
    missing = [name for name in names if name in source.entries and name not in stored]
    if missing:
        raise Incomplete(
            f"{len(missing):,} tensors that the original has are missing, the first: {missing[0]}",
            where=str(target.path), expected="all tensors that config.json describes",
            fix="download it again, or pack it again",
        )  # fmt: skip


def _check_experts(source: Checkpoint, scales: Mapping[str, float]) -> None:
    """Refuse experts of which only some have input scales: all of a layer share one kernel, and its inputs."""
    layers = {experts_module(module) for module in scales} - {""}
    modules = (name.removesuffix(".weight") for name in source.entries)
    missing = sorted(module for module in modules if experts_module(module) in layers and module not in scales)
    if missing:
        raise Inconsistent(
            f"{len(missing):,} of its experts' projections have no input scale, the first: {missing[0]}",
            where=experts_module(missing[0]), expected="one for each, as others of this layer have",
            fix="calibrate and pack again",
        )  # fmt: skip


def _calibration(original: ModelHandle, targets: Sequence[Target], spoken: Sequence[Spoken]) -> Any:
    """Runs a model over what is asked: nothing else may set the ranges of plain NVFP4."""

    def loop(model: Any) -> None:
        for target in targets:
            logprobs(model, original.processor, target.conversation, original.device, target.tokens)
        for each in spoken:
            answer, conversation = each.answer, each.target.conversation
            speech_logprobs(model, original.processor, conversation, original.device, answer.tokens, answer.codes)

    return loop


def _device_name(device: str) -> str:
    import platform

    if device == "cpu":
        return f"cpu ({platform.machine()})"
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})"


def versions() -> dict[str, str]:
    """Release of each package that answers depend on; those that are not installed are left out."""
    found = {"pytest-q3omni": __version__}
    for name in ("torch", "transformers", PACKAGE):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
