"""Parity of two checkpoints: opens the engines that the comparison asks for, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_q3omni.engines.answers import logprobs
from pytest_q3omni.engines.handle import ModelHandle
from pytest_q3omni.engines.packed import file_numerics, input_scales, packed_modules
from pytest_q3omni.engines.plain_nvfp4 import PlainNVFP4
from pytest_q3omni.engines.speech import speech_logprobs
from pytest_q3omni.errors import Inconsistent, InvalidRequest
from pytest_q3omni.omni.checkpoint import Checkpoint, open_checkpoint
from pytest_q3omni.omni.conversations import Conversation
from pytest_q3omni.omni.naming import fused_group, input_site
from pytest_q3omni.omni.stages import stage_of
from pytest_q3omni.parity.compare import Contestants, PlainEngine, compare
from pytest_q3omni.parity.logits import Target
from pytest_q3omni.parity.speech import Spoken
from pytest_q3omni.records import Numerics, Parity, Progress, TensorInfo, TensorPlan, no_progress


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
        Inconsistent: a packed module that the original does not have.
        MissingDependency, EngineError, Unreadable: a model cannot be loaded or run.
    """
    if not conversations:
        raise InvalidRequest("no conversations", expected="one at least", fix="pass --conversations FILE.jsonl")
    device = device or ModelHandle(original).device
    engines = contestants(original, quantized, numerics=numerics, device=device)
    return compare(engines, conversations, device=_device_name(device), versions=_versions(), progress=progress)


def contestants(
    original: Path, quantized: Path, *, numerics: Sequence[Numerics] = (), device: str | None = None
) -> Contestants:
    """The engines of one comparison; none is open yet. Raises what `compare_checkpoints` does of the files."""
    source, target = open_original(original), open_checkpoint(quantized)
    packed = packed_modules(target)
    bf16 = ModelHandle(original, device=device)
    tensors = packed_tensors(source, packed)

    def plain(targets: Sequence[Target], spoken: Sequence[Spoken]) -> PlainEngine:
        heard = spoken if any(each.stage != "thinker" for each in tensors if each.action == "nvfp4") else ()
        return PlainNVFP4(original, tensors, _calibration(bf16, targets, heard), device=bf16.device)

    wanted = numerics or _numerics(file_numerics(target, packed))
    return Contestants(
        original=bf16,
        repeat=ModelHandle(original, device=bf16.device, attention="eager"),
        plain=plain,
        quantized={name: ModelHandle(quantized, numerics=name, device=bf16.device) for name in wanted},
        input_scales=input_scales(target, packed),
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


def packed_tensors(source: Checkpoint, packed: set[str]) -> list[TensorPlan]:
    """The original's tensors, with what the checkpoint packs of them.

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
    return [_tensor(info, packed) for info in source.tensors]


def _tensor(info: TensorInfo, packed: set[str]) -> TensorPlan:
    module, stage = info.name.removesuffix(".weight"), stage_of(info.name)
    name = stage.name if stage else ""
    part = stage.part(info.name).name if stage else ""
    if module not in packed:
        return TensorPlan(info, name, part, "keep", (info,))
    return TensorPlan(info, name, part, "nvfp4", (), fused_group(module), input_site(module))


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


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    from pytest_q3omni import __version__

    others = ("torch", "transformers", "nvidia-modelopt")
    return {"pytest-q3omni": __version__, **{name: version(name) for name in others}}
