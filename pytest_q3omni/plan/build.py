"""Building a plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_q3omni.errors import Incomplete, Inconsistent, InvalidRequest
from pytest_q3omni.layouts import Layout, layout
from pytest_q3omni.nvfp4.format import check_shape
from pytest_q3omni.omni.checkpoint import fingerprint, source_tensors
from pytest_q3omni.omni.naming import fused_group, input_site
from pytest_q3omni.omni.stages import expected_tensors, stage_of
from pytest_q3omni.plan.recipes import Recipe, recipe
from pytest_q3omni.plan.sizes import fill_shards, stage_sizes
from pytest_q3omni.records import Plan, TensorInfo, TensorPlan

if TYPE_CHECKING:
    from pytest_q3omni.omni.hub_files import HubFiles

DEFAULT_SHARD_BYTES = 5 * 10**9


def build_plan(
    source: Path | HubFiles,
    recipe_name: str,
    *,
    layout_name: str = "modelopt",
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> Plan:
    """The plan of a recipe for SRC: a checkpoint in a directory or on a hub, or a config file alone.

    Raises:
        UnknownName: no such recipe or layout.
        Unreadable, Inconsistent: SRC is not a readable Qwen3-Omni checkpoint or config.
        InvalidRequest: SRC is quantized already, or the recipe finds nothing to pack in it.
        FormatError: a weight that the recipe packs does not fit the format; named.
    """
    chosen, target_layout = recipe(recipe_name), layout(layout_name)
    config, tensors = source_tensors(source)
    refuse_quantized(source, config, tensors)
    planned = tuple(_tensor_plan(tensor, chosen, target_layout) for tensor in sorted(tensors, key=lambda t: t.name))
    _check_whole(source, config, tensors)
    if chosen.packs and not any(tensor.action == "nvfp4" for tensor in planned):
        wanted = "; ".join(f"{stage}: {', '.join(parts)}" for stage, parts in chosen.packs.items())
        raise InvalidRequest(f"recipe {chosen.name} finds nothing to pack", where=str(source), expected=wanted)
    return Plan(
        recipe=chosen.name,
        numerics=chosen.numerics,
        layout=target_layout.name,
        fingerprint=fingerprint(config, tensors),
        max_shard_bytes=max_shard_bytes,
        tensors=planned,
        shards=fill_shards((target for tensor in planned for target in tensor.targets), max_shard_bytes),
        stages=stage_sizes(planned),
    )


def refuse_quantized(source: Path | HubFiles, config: Mapping[str, Any], tensors: list[TensorInfo]) -> None:
    """Stop at a source that is packed already: packing twice loses bits and names no one expects.

    Raises:
        InvalidRequest: the config declares a quantization, or a tensor has a dtype of packed weights.
    """
    packed = next((tensor for tensor in tensors if tensor.dtype in ("U8", "F8_E4M3", "I8")), None)
    if config.get("quantization_config") or packed:
        found = f"tensor {packed.name} is {packed.dtype}" if packed else "config.json has a quantization_config"
        raise InvalidRequest(
            f"this checkpoint is already quantized ({found})",
            where=str(source),
            expected="the BF16 original",
            fix="pass the original model as SRC; `q3omni verify` judges this one",
        )


def _check_whole(source: Path | HubFiles, config: Mapping[str, Any], tensors: list[TensorInfo]) -> None:
    """Every tensor that the config implies is there in its shape: half a model would pack without a word.

    Raises:
        Incomplete, Inconsistent: names the first tensor that is missing or of another shape.
    """
    found = {tensor.name: tensor.shape for tensor in tensors}
    expected = expected_tensors(config, f"{source}: config.json")
    missing = [tensor for tensor in expected if tensor.name not in found]
    if missing:
        raise Incomplete(
            f"{len(missing):,} of {len(expected):,} tensors are missing, the first: {missing[0].name}",
            where=str(source),
            expected="every tensor that config.json implies",
            fix="download the missing shards; a model without speech says `enable_audio_output: false`",
        )
    for tensor in expected:
        if found[tensor.name] != tensor.shape:
            raise Inconsistent(
                f"shape {list(found[tensor.name])}",
                where=f"{source}: {tensor.name}",
                expected=f"{list(tensor.shape)}, as config.json implies",
                fix="take config.json and weights from the same model",
            )


def _tensor_plan(tensor: TensorInfo, chosen: Recipe, target_layout: Layout) -> TensorPlan:
    stage = stage_of(tensor.name)
    if stage is None or stage.foreign:
        raise Inconsistent(
            "belongs to no stage",
            where=tensor.name,
            expected="a tensor of Qwen3-Omni",
            fix="check that SRC holds the whole model with its prefixes (thinker., talker., ...)",
        )
    part = stage.part(tensor.name)
    if part.name not in chosen.packs.get(stage.name, ()):
        return TensorPlan(tensor, stage.name, part.name, "keep", (tensor,))
    if part.keep:
        raise InvalidRequest(f"recipe {chosen.name} packs {part.name}, which must stay: {part.keep}", where=tensor.name)
    assert chosen.numerics != "bf16", "a recipe that packs says how"
    module = tensor.name.removesuffix(".weight")
    check_shape(tensor.shape, where=module)
    if tensor.dtype != "BF16":
        raise InvalidRequest(
            f"dtype {tensor.dtype}", where=tensor.name, expected="BF16", fix="save the model in bfloat16"
        )
    return TensorPlan(
        source=tensor,
        stage=stage.name,
        part=part.name,
        action="nvfp4",
        targets=target_layout.targets(tensor, chosen.numerics),
        group=fused_group(module),
        input_site=input_site(module) if chosen.numerics == "w4a4" else "",
    )
