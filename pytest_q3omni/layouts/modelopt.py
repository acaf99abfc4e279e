"""ModelOpt's layout, declared as MIXED_PRECISION with explicit `quantized_layers`.

Per packed (out, in) weight `M.weight`: `M.weight` U8 (out, in/2), `M.weight_scale` F8_E4M3 (out, in/16),
`M.weight_scale_2` F32 (), and for W4A4 `M.input_scale` F32 (). Written by modelopt/torch/export (0.47) for NVFP4.

Why MIXED_PRECISION and not plain NVFP4: vLLM 0.32 and 0.33 build `lm_head` without its prefix, so no ignore entry
keeps a BF16 lm_head out of plain NVFP4; with explicit layers everything that is not listed stays unquantized. One entry
`....mlp.experts` stands for all experts of a layer: engines fuse them, and 384 entries load the same (vLLM,
`ModelOptMixedPrecisionConfig._resolve_quant_algo`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pytest_q3omni import __version__
from pytest_q3omni.layouts._protocol import Declared
from pytest_q3omni.nvfp4.format import BLOCK_SIZE
from pytest_q3omni.omni.naming import experts_module
from pytest_q3omni.records import Numerics, Plan, TensorInfo

_ALGORITHM: dict[Numerics, str] = {"w4a4": "NVFP4", "w4a16": "W4A16_NVFP4"}
_NUMERICS: dict[str, Numerics] = {algorithm: numerics for numerics, algorithm in _ALGORITHM.items()}


class _ModelOpt:
    name = "modelopt"

    def targets(self, source: TensorInfo, numerics: Numerics) -> tuple[TensorInfo, ...]:
        out, inner = source.shape
        module = source.name.removesuffix(".weight")
        weight = (
            TensorInfo(f"{module}.weight", "U8", (out, inner // 2)),
            TensorInfo(f"{module}.weight_scale", "F8_E4M3", (out, inner // BLOCK_SIZE)),
            TensorInfo(f"{module}.weight_scale_2", "F32", ()),
        )
        return weight if numerics == "w4a16" else (*weight, TensorInfo(f"{module}.input_scale", "F32", ()))

    def quantization_config(self, plan: Plan) -> dict[str, Any]:
        entry = {"quant_algo": _ALGORITHM[plan.numerics], "group_size": BLOCK_SIZE}
        units = dict.fromkeys(experts_module(tensor.module) or tensor.module for tensor in plan.packed)
        return {
            "quant_method": "modelopt",
            "quant_algo": "MIXED_PRECISION",
            "producer": {"name": "pytest-q3omni", "version": __version__},
            "quantized_layers": {unit: entry for unit in sorted(units)},
            "ignore": _ignore(plan),
        }

    def reads(self, block: Mapping[str, Any]) -> bool:
        return str(block.get("quant_method", "")).startswith("modelopt")

    def declared(self, block: Mapping[str, Any]) -> Declared:
        block = block["quantization"] if isinstance(block.get("quantization"), Mapping) else block
        ignore = block.get("ignore", block.get("exclude_modules", []))
        faults = []
        if not isinstance(ignore, list) or not all(isinstance(item, str) for item in ignore):
            faults.append(("ignore", repr(ignore)[:80], "a list of module names", "list what stays unquantized"))
            ignore = []
        algorithm = str(block.get("quant_algo", "")).upper()
        if algorithm == "MIXED_PRECISION":
            modules = _listed(block.get("quantized_layers"), faults)
            return Declared(modules=modules, ignore=tuple(ignore), faults=tuple(faults))
        if algorithm not in _NUMERICS:
            expected = f"MIXED_PRECISION, {', '.join(sorted(_NUMERICS))}"
            faults.append(("quant_algo", algorithm or "nothing", expected, "pack with a recipe that engines load"))
        _check_group_size("group_size", block, faults)
        return Declared(everything=_NUMERICS.get(algorithm), ignore=tuple(ignore), faults=tuple(faults))


def _listed(layers: Any, faults: list[tuple[str, str, str, str]]) -> dict[str, Numerics]:
    if not isinstance(layers, Mapping) or not layers:
        faults.append(("quantized_layers", repr(layers)[:80], "module -> algorithm", "list the packed layers"))
        return {}
    modules: dict[str, Numerics] = {}
    for module, entry in layers.items():
        algorithm = str(entry.get("quant_algo", "")).upper() if isinstance(entry, Mapping) else repr(entry)
        if algorithm in _NUMERICS:
            modules[module] = _NUMERICS[algorithm]
            _check_group_size(f"quantized_layers.{module}.group_size", entry, faults)
        else:
            where = f"quantized_layers.{module}.quant_algo"
            faults.append((where, algorithm or "nothing", " or ".join(sorted(_NUMERICS)), "name a known algorithm"))
    return modules


def _check_group_size(where: str, entry: Mapping[str, Any], faults: list[tuple[str, str, str, str]]) -> None:
    size = entry.get("group_size", BLOCK_SIZE)
    if size != BLOCK_SIZE:
        faults.append((where, repr(size), str(BLOCK_SIZE), "serving kernels take blocks of 16: pack again"))


def _ignore(plan: Plan) -> list[str]:
    """What stays unquantized, as engines match it: whole families by prefix, routers and lm_head by name."""
    packed = {tensor.module for tensor in plan.packed}
    linears = [t.module for t in plan.tensors if t.action == "keep" and t.source.name.endswith(".weight")]
    families = sorted({_family(module) for module in linears} - {""})
    chosen = [f"{family}*" for family in families if not _holds(family, packed)]
    chosen += sorted(t.module for t in plan.tensors if t.part in ("router", "lm_head") and t.stage == "thinker")
    return chosen


def _family(module: str) -> str:
    """`thinker.visual` of `thinker.visual.blocks.0.attn.qkv`; the stage outside the thinker; "" of the decoder."""
    stage, _, rest = module.partition(".")
    if stage != "thinker":
        return stage
    head = rest.partition(".")[0]
    return "" if head in ("model", "lm_head") else f"{stage}.{head}"


def _holds(family: str, modules: Iterable[str]) -> bool:
    return any(module == family or module.startswith(f"{family}.") for module in modules)


LAYOUT = _ModelOpt()
