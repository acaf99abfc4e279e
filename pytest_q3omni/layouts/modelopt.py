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
from pytest_q3omni.layouts._kv_cache import kv_cache_faults
from pytest_q3omni.layouts._protocol import Declared, FaultTuple
from pytest_q3omni.nvfp4.format import BLOCK_SIZE
from pytest_q3omni.omni.naming import experts_module
from pytest_q3omni.records import Plan, Scheme, TensorInfo

_SCHEMES: dict[str, Scheme] = {
    "NVFP4": "w4a4",
    "W4A16_NVFP4": "w4a16",
    "FP8": "fp8",
    "FP8_PER_CHANNEL_PER_TOKEN": "fp8_dynamic",
}
_ALGORITHM = {scheme: algorithm for algorithm, scheme in _SCHEMES.items()}
_KV_CACHE = ("kv_cache_scheme", "kv_cache_quant_algo")


class _ModelOpt:
    name = "modelopt"
    inverted = False

    def targets(self, source: TensorInfo, scheme: Scheme) -> tuple[TensorInfo, ...]:
        out, inner = source.shape
        module = source.name.removesuffix(".weight")
        input_scale = TensorInfo(f"{module}.input_scale", "F32", ())
        if scheme in ("fp8", "fp8_dynamic"):
            weight = TensorInfo(f"{module}.weight", "F8_E4M3", (out, inner))
            scale = TensorInfo(f"{module}.weight_scale", "F32", () if scheme == "fp8" else (out,))
            return (weight, scale, input_scale) if scheme == "fp8" else (weight, scale)
        packed = (
            TensorInfo(f"{module}.weight", "U8", (out, inner // 2)),
            TensorInfo(f"{module}.weight_scale", "F8_E4M3", (out, inner // BLOCK_SIZE)),
            TensorInfo(f"{module}.weight_scale_2", "F32", ()),
        )
        return packed if scheme == "w4a16" else (*packed, input_scale)

    def quantization_config(self, plan: Plan) -> dict[str, Any]:
        entry = {"quant_algo": _ALGORITHM[plan.scheme or "w4a16"], "group_size": BLOCK_SIZE}
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
        faults: list[FaultTuple] = []
        ignore = _names(block.get("ignore", block.get("exclude_modules")), faults)
        kv_cache = any(block.get(key) for key in _KV_CACHE)
        faults += kv_cache_faults(block)
        algorithm = str(block.get("quant_algo", "")).upper()
        if algorithm == "MIXED_PRECISION":
            modules = _listed(block.get("quantized_layers"), faults)
            return Declared(modules, ignore=ignore, kv_cache=kv_cache, faults=tuple(faults))
        scheme = _SCHEMES.get(algorithm)
        if scheme is None:
            expected = f"MIXED_PRECISION, {', '.join(sorted(_SCHEMES))}"
            faults.append(("quant_algo", algorithm or "nothing", expected, "pack with a recipe that engines load"))
        if scheme in ("w4a4", "w4a16"):
            _check_group_size("group_size", block, faults)
            groups = block.get("config_groups")
            for name, group in groups.items() if isinstance(groups, Mapping) else ():
                for part in ("weights", "input_activations"):
                    numbers = group.get(part) if isinstance(group, Mapping) else None
                    if isinstance(numbers, Mapping):
                        _check_numbers(f"config_groups.{name}.{part}", numbers, faults)
        return Declared(everything=scheme, ignore=ignore, kv_cache=kv_cache, faults=tuple(faults))


def _names(ignore: Any, faults: list[FaultTuple]) -> tuple[str, ...]:
    if ignore is None:
        return ()
    if not isinstance(ignore, list) or not all(isinstance(item, str) for item in ignore):
        faults.append(("ignore", repr(ignore)[:80], "a list of module names", "list what stays unquantized"))
        return ()
    return tuple(ignore)


def _listed(layers: Any, faults: list[FaultTuple]) -> dict[str, Scheme]:
    if not isinstance(layers, Mapping) or not layers:
        faults.append(("quantized_layers", repr(layers)[:80], "module -> algorithm", "list the packed layers"))
        return {}
    modules: dict[str, Scheme] = {}
    for module, entry in layers.items():
        algorithm = str(entry.get("quant_algo", "")).upper() if isinstance(entry, Mapping) else repr(entry)
        if algorithm in _SCHEMES:
            modules[module] = _SCHEMES[algorithm]
            if modules[module] in ("w4a4", "w4a16"):
                _check_group_size(f"quantized_layers.{module}.group_size", entry, faults)
        else:
            where = f"quantized_layers.{module}.quant_algo"
            faults.append((where, algorithm[:80] or "nothing", " or ".join(sorted(_SCHEMES)), "name a known algorithm"))
    return modules


def _check_numbers(where: str, numbers: Mapping[str, Any], faults: list[FaultTuple]) -> None:
    """Faults where a config group beside a plain NVFP4 algorithm says something else than 4-bit floats."""
    _check_group_size(f"{where}.group_size", numbers, faults)
    for field, expected in (("num_bits", 4), ("type", "float")):
        found = numbers.get(field, expected)
        if found != expected:
            fix = "write the group as the weights are packed, or pack again"
            faults.append((f"{where}.{field}", repr(found)[:80], repr(expected), fix))


def _check_group_size(where: str, entry: Mapping[str, Any], faults: list[FaultTuple]) -> None:
    size = entry.get("group_size", BLOCK_SIZE)
    if size != BLOCK_SIZE:
        faults.append((where, repr(size)[:80], str(BLOCK_SIZE), "serving kernels take blocks of 16: pack again"))


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
