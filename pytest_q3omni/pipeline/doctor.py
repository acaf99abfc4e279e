"""What this machine can do with a checkpoint: asks driver, torch, vLLM and plan, and has the answers judged."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_q3omni.engines.compatibility import planned, tripped
from pytest_q3omni.engines.engine_python import VARIABLE, find_python
from pytest_q3omni.engines.machine import Device, Machine, look, system_memory
from pytest_q3omni.engines.vllm_surroundings import ExpertShapes, TorchBuild, ask_torch, ask_vllm
from pytest_q3omni.errors import InvalidRequest, MissingDependency
from pytest_q3omni.omni.checkpoint import source_tensors
from pytest_q3omni.omni.config import MODEL_TYPE, THINKER_TYPE, Section, model_section
from pytest_q3omni.omni.safetensors_file import nbytes
from pytest_q3omni.omni.stages import stage_of
from pytest_q3omni.plan.build import build_plan
from pytest_q3omni.plan.recipes import recipe, recipe_names
from pytest_q3omni.records import Numerics, Plan, TensorInfo
from pytest_q3omni.serve.decoder import decoder_of
from pytest_q3omni.serve.doctor import judge_surroundings
from pytest_q3omni.serve.examination import Examination, Surroundings
from pytest_q3omni.serve.fit import Needs

if TYPE_CHECKING:
    from pytest_q3omni.omni.hub_files import HubFiles

_LOADED = ("thinker", "decoder")  # plain vLLM answers in text: it skips talker, code predictor and code2wav
_PACKED = ("U8", "F8_E4M3", "I8")


def examine_machine(
    place: Path | HubFiles,
    recipe_name: str,
    *,
    engine_python: str | os.PathLike[str] | None = None,
    at_once: int,
    context: int,
) -> Examination:
    """This machine, for a source and a recipe, or for a checkpoint that is packed already.

    Raises:
        UnknownName: no such recipe. InvalidRequest: no such interpreter, or no requests at all.
        Unreadable, Inconsistent, Incomplete, Unreachable: the checkpoint cannot be read.
    """
    if at_once < 1 or context < 1:
        expected, fix = "1 or more of both", "correct --at-once or --context"
        raise InvalidRequest(f"{at_once:,} requests of {context:,} tokens", expected=expected, fix=fix)
    recipe(recipe_name)
    config, tensors = source_tensors(place)
    packed = bool(config.get("quantization_config")) or any(tensor.dtype in _PACKED for tensor in tensors)
    plans = {} if packed else {name: build_plan(place, name) for name in recipe_names()}
    plan = plans.get(recipe_name)
    text = _text(model_section(config, str(place)))
    needs = Needs(
        name=str(place) if plan is None else recipe_name,
        weights=_loaded(tensors) if plan is None else _loaded_by(plan),
        token_bytes=decoder_of(config, tensors, str(place)).kv_bytes_per_token,
        longest=text.number("max_position_embeddings") if "max_position_embeddings" in text.values else 0,
        at_once=at_once,
        context=context,
        others={name: _loaded_by(other) for name, other in plans.items() if name != recipe_name},
    )
    numerics = _numerics(tensors) if plan is None else plan.numerics
    found = _surroundings(needs, _experts(text), numerics, engine_python)
    traps = None if plan is None else _traps(plan, found.vllm.version if found.vllm else "")
    found = replace(found, traps=traps)
    return Examination(judge_surroundings(found), found)


def _surroundings(
    needs: Needs, shapes: ExpertShapes, numerics: Numerics, engine_python: str | os.PathLike[str] | None
) -> Surroundings:
    vllm, vllm_torch, why = None, None, ""
    try:
        python = find_python(engine_python)
    except MissingDependency as error:
        torch, why = ask_torch(), error.found
    else:
        vllm_torch, vllm = ask_vllm(python, shapes)
        own = python.absolute() == Path(sys.executable).absolute()
        torch = vllm_torch if own else ask_torch()
    machine = look()
    return Surroundings(
        machine=machine,
        devices=_devices(machine, torch, vllm_torch),
        torch=torch,
        needs=needs,
        shapes=shapes,
        numerics=numerics,
        vllm=vllm,
        vllm_torch=vllm_torch,
        no_vllm=why,
        vllm_named=bool(engine_python or os.environ.get(VARIABLE)),
    )


def _devices(machine: Machine, *torches: TorchBuild | None) -> tuple[Device, ...]:
    """As torch numbers them, which leaves out what CUDA_VISIBLE_DEVICES hides; else as the driver does.

    A unified device has the system's memory: what CUDA calls free leaves out what the page cache would give back.
    """
    seen = next((torch.devices for torch in torches if torch is not None and torch.devices), machine.devices)
    total, free = system_memory()
    return tuple(
        replace(device, unified=True, total=total or device.total, free=free or device.free)
        if device.unified or machine.board
        else device
        for device in seen
    )


def _text(section: Section) -> Section:
    kind = section.values.get("model_type")
    thinker = section.section("thinker_config") if kind == MODEL_TYPE else section
    return thinker.section("text_config") if kind in (MODEL_TYPE, THINKER_TYPE) else thinker


def _experts(text: Section) -> ExpertShapes:
    keys = ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "hidden_size")
    return ExpertShapes(*(text.number(key) for key in keys))


def _loaded_by(plan: Plan) -> int:
    return sum(size.tensor_bytes for name, size in plan.stages.items() if name in _LOADED)


def _loaded(tensors: Sequence[TensorInfo]) -> int:
    stages = ((tensor, stage_of(tensor.name)) for tensor in tensors)
    return sum(nbytes(tensor) for tensor, stage in stages if stage is not None and stage.name in _LOADED)


def _numerics(tensors: Sequence[TensorInfo]) -> Numerics:
    """Of packed files: with scales for the inputs, they are rounded, too."""
    scales = (".input_scale", ".input_global_scale")
    return "w4a4" if any(tensor.name.endswith(scales) for tensor in tensors) else "w4a16"


def _traps(plan: Plan, version: str) -> tuple[tuple[str, str], ...]:
    found: dict[str, tuple[str, str]] = {}
    for trap, where, what in tripped(planned(plan), version=version):
        found.setdefault(trap.name, (f"{trap.versions} and {where} ({what}): {trap.then}", trap.fix))
    return tuple(found.values())
