"""compressed-tensors' layout (llm-compressor, compressed-tensors 0.20), format `nvfp4-pack-quantized`.

Per packed (out, in) weight of module `M`: `M.weight_packed` U8 (out, in/2), `M.weight_scale` F8_E4M3 (out, in/16),
`M.weight_global_scale` F32 (1,) and for W4A4 `M.input_global_scale` F32 (1,). Both global scales are **inverted**: 2688
/ amax, and what they scale is divided by them. FP8 in the same file (`float-quantized`): `M.weight` F8_E4M3,
`M.weight_scale` in the model's dtype, () or (out, 1).

A config group has `targets` (class names such as `Linear`, module names, or `re:` patterns) and `weights` /
`input_activations` schemes; `ignore`, in the same spelling, is asked first (vLLM, `should_ignore_layer`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_q3omni.layouts._kv_cache import kv_cache_faults
from pytest_q3omni.layouts._protocol import Declared, FaultTuple
from pytest_q3omni.nvfp4.format import BLOCK_SIZE
from pytest_q3omni.records import Plan, Scheme, TensorInfo

_METHOD = "compressed-tensors"
_FORMAT = "nvfp4-pack-quantized"
_EVERY_LINEAR = "Linear"
_AGAIN = "pack again as NVFP4 (llm-compressor: scheme NVFP4 or NVFP4A16)"


class _CompressedTensors:
    name = "compressed-tensors"
    inverted = True

    def targets(self, source: TensorInfo, scheme: Scheme) -> tuple[TensorInfo, ...]:
        out, inner = source.shape
        module = source.name.removesuffix(".weight")
        if scheme in ("fp8", "fp8_dynamic"):
            weight = TensorInfo(f"{module}.weight", "F8_E4M3", (out, inner))
            scale = TensorInfo(f"{module}.weight_scale", "BF16", (1,) if scheme == "fp8" else (out, 1))
            input_scale = TensorInfo(f"{module}.input_scale", "BF16", (1,))
            return (weight, scale, input_scale) if scheme == "fp8" else (weight, scale)
        packed = (
            TensorInfo(f"{module}.weight_packed", "U8", (out, inner // 2)),
            TensorInfo(f"{module}.weight_scale", "F8_E4M3", (out, inner // BLOCK_SIZE)),
            TensorInfo(f"{module}.weight_global_scale", "F32", (1,)),
        )
        return packed if scheme == "w4a16" else (*packed, TensorInfo(f"{module}.input_global_scale", "F32", (1,)))

    def quantization_config(self, plan: Plan) -> dict[str, Any]:
        """One group over all Linears; what stays is ignored by its whole name, since vLLM renames modules before it
        matches, and patterns with the prefix `thinker.` match nothing then (vLLM 0.32)."""
        linears = (t for t in plan.tensors if len(t.source.shape) == 2 and t.source.name.endswith(".weight"))
        kept = [t.module for t in linears if t.action == "keep" and "embed" not in t.module]
        weights = {**_NVFP4, "dynamic": False}
        group = {
            "targets": [_EVERY_LINEAR],
            "weights": weights,
            "input_activations": {**_NVFP4, "dynamic": "local"} if plan.scheme == "w4a4" else None,
            "output_activations": None,
            "format": _FORMAT,
        }
        return {
            "quant_method": _METHOD,
            "format": _FORMAT,
            "quantization_status": "compressed",
            "config_groups": {"group_0": group},
            "ignore": sorted(kept),
            "kv_cache_scheme": None,
        }

    def reads(self, block: Mapping[str, Any]) -> bool:
        return block.get("quant_method") == _METHOD

    def declared(self, block: Mapping[str, Any]) -> Declared:
        faults: list[FaultTuple] = []
        ignore = _names("ignore", block.get("ignore") or [], faults)
        groups = block.get("config_groups")
        if not isinstance(groups, Mapping) or not groups:
            faults.append(("config_groups", repr(groups)[:80], "groups with targets and weights", _AGAIN))
            groups = {}
        targets: list[tuple[str, Scheme]] = []
        everything: Scheme | None = None
        for name, group in groups.items():
            scheme = _scheme(f"config_groups.{name}", group, faults)
            entries = _names(f"config_groups.{name}.targets", _field(group, "targets"), faults)
            if scheme is not None:
                everything = everything or (scheme if _EVERY_LINEAR in entries else None)
                targets += [(entry, scheme) for entry in entries if entry != _EVERY_LINEAR]
        _whole(block, groups, faults)
        status = block.get("quantization_status", "compressed")
        if status != "compressed":
            faults.append(("quantization_status", repr(status)[:80], "'compressed'", "save it compressed"))
        kv_cache = bool(block.get("kv_cache_scheme"))
        faults += kv_cache_faults(block)
        return Declared({}, tuple(targets), everything, ignore, "names", kv_cache, tuple(faults))


_FORMATS: dict[Scheme, tuple[str, ...]] = {
    "w4a4": (_FORMAT,),
    "w4a16": (_FORMAT,),
    "fp8": ("float-quantized", "naive-quantized"),
    "fp8_dynamic": ("float-quantized", "naive-quantized"),
}
_SEVERAL = "mixed-precision"
_SCALE_DTYPES = (None, "torch.float8_e4m3fn")
_NVFP4 = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": BLOCK_SIZE, "symmetric": True}


def _whole(block: Mapping[str, Any], groups: Mapping[str, Any], faults: list[FaultTuple]) -> None:
    """Faults of the fields beside the groups: the format of all, transforms and sparsity that the weights lack."""
    own = {found for found in (_field(group, "format") for group in groups.values()) if isinstance(found, str)}
    known = {form for forms in _FORMATS.values() for form in forms}
    said = block.get("format")
    fitting = ((own & known) or known) | {_SEVERAL}
    if said is not None and not (isinstance(said, str) and said in fitting):
        expected = " or ".join(sorted(map(str, own or known)))
        faults.append(("format", repr(said)[:80], expected, "write the format of the groups"))
    elif said == _SEVERAL and not own and groups:
        faults.append(("format", repr(said)[:80], f"{_FORMAT}, here or in each group", "name the format"))
    for place in ("transform_config", "sparsity_config"):
        found = block.get(place)
        if isinstance(found, Mapping) and (found.get("config_groups") or found.get("targets")):
            fix = "take it out: engines would transform the inputs, or look for other tensors"
            faults.append((place, repr(found)[:80], "none: plain dense weights", fix))


def _field(group: Any, name: str) -> Any:
    return group.get(name) if isinstance(group, Mapping) else None


def _names(where: str, entries: Any, faults: list[FaultTuple]) -> tuple[str, ...]:
    if not isinstance(entries, list) or not all(isinstance(item, str) for item in entries):
        faults.append((where, repr(entries)[:80], "a list of module names", "list names, or patterns after `re:`"))
        return ()
    return tuple(entries)


def _scheme(where: str, group: Any, faults: list[FaultTuple]) -> Scheme | None:
    """What a group's weights and inputs are, None (and a fault) where no kernel of this format computes it."""
    weights, inputs = _field(group, "weights"), _field(group, "input_activations")
    if not isinstance(weights, Mapping) or not (inputs is None or isinstance(inputs, Mapping)):
        faults.append((f"{where}.weights", repr(weights)[:80], "a scheme for the weights", _AGAIN))
        return None
    scheme = _numbers(where, weights, inputs, faults)
    if scheme is None:
        return None
    given = group.get("format")
    for field, found, expected in (
        ("format", given, (None, *_FORMATS[scheme])),
        ("weights.dynamic", weights.get("dynamic"), (None, False)),
        ("output_activations", group.get("output_activations"), (None,)),
    ):
        if found not in expected:
            faults.append((f"{where}.{field}", repr(found)[:80], repr(expected[-1]), _AGAIN))
    return scheme


def _numbers(
    where: str, weights: Mapping[str, Any], inputs: Mapping[str, Any] | None, faults: list[FaultTuple]
) -> Scheme | None:
    """What numbers weights and inputs are."""
    kind = weights.get("num_bits"), weights.get("type")
    if kind == (4, "float"):
        return _nvfp4(where, weights, inputs, faults)
    if kind == (8, "float") and inputs is not None:
        scheme = _fp8(where, weights, inputs, faults)
        if scheme is not None or any(place.startswith(f"{where}.input_activations") for place, *_ in faults):
            return scheme
    found = f"num_bits {weights.get('num_bits')!r:.20}, type {kind[1]!r:.20}, strategy {weights.get('strategy')!r:.20}"
    faults.append((f"{where}.weights", found, "4-bit floats in groups of 16, or FP8 per tensor or row", _AGAIN))
    return None


def _fp8(where: str, weights: Mapping[str, Any], inputs: Mapping[str, Any], faults: list[FaultTuple]) -> Scheme | None:
    """FP8 by tensor with static inputs, or by row with inputs scaled while the model runs; None for anything else."""
    by_row = weights.get("strategy") == "channel"
    if weights.get("strategy") not in ("channel", "tensor") or weights.get("symmetric") is False:
        return None
    wanted = {"num_bits": 8, "type": "float", "dynamic": by_row, "strategy": "token" if by_row else "tensor"}
    for field, expected in wanted.items():
        found = inputs.get(field)
        if found != expected or type(found) is not type(expected):
            faults.append((f"{where}.input_activations.{field}", f"{found!r:.60}", repr(expected), _AGAIN))
            return None
    if inputs.get("symmetric") is False:
        faults.append((f"{where}.input_activations.symmetric", "False", "True", _AGAIN))
        return None
    return "fp8_dynamic" if by_row else "fp8"


def _nvfp4(
    where: str, weights: Mapping[str, Any], inputs: Mapping[str, Any] | None, faults: list[FaultTuple]
) -> Scheme | None:
    for place, part in (("weights", weights), ("input_activations", inputs or {})):
        for field, expected in _NVFP4.items() if part else ():
            if part.get(field) != expected:
                faults.append((f"{where}.{place}.{field}", f"{part.get(field)!r:.60}", repr(expected), _AGAIN))
                return None
        if part.get("scale_dtype") not in _SCALE_DTYPES:
            faults.append((f"{where}.{place}.scale_dtype", f"{part['scale_dtype']!r:.60}", _SCALE_DTYPES[-1], _AGAIN))
            return None
    if inputs is not None and inputs.get("dynamic") not in ("local", True):
        found = f"{inputs.get('dynamic')!r:.60}"
        faults.append((f"{where}.input_activations.dynamic", found, "'local': a scale for each block", _AGAIN))
        return None
    return "w4a16" if inputs is None else "w4a4"


LAYOUT = _CompressedTensors()
