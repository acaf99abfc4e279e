"""A packed checkpoint's tensors as BF16 torch tensors, one at a time: transformers never sees the packed ones.

`from_pretrained(None, state_dict=...)` materializes each value with `value[...]`, as it does with the slices of a
safetensors file; ours read the bytes and dequantize then. So no second copy of the model exists at any moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_q3omni.engines.transformers import load_model
from pytest_q3omni.engines.w4a4 import quantize_inputs
from pytest_q3omni.errors import Inconsistent, InvalidRequest
from pytest_q3omni.layouts import Layout, Suffixes, layout, layout_of, suffixes
from pytest_q3omni.omni.checkpoint import Checkpoint
from pytest_q3omni.omni.safetensors_file import nbytes
from pytest_q3omni.records import Numerics

if TYPE_CHECKING:
    import torch

_TORCH = {"BF16": "bfloat16", "F32": "float32", "F16": "float16", "F64": "float64", "BOOL": "bool", "I64": "int64"}


@dataclass(frozen=True)
class BF16Tensor:
    """One BF16 tensor to be, of the name that it has in the unquantized model; reads, and dequantizes where it is
    packed, when asked with `[...]`."""

    checkpoint: Checkpoint
    name: str
    packed: bool

    def __getitem__(self, everything: Any) -> torch.Tensor:
        return (self._dequantized() if self.packed else read_tensor(self.checkpoint, self.name))[everything]

    def _dequantized(self) -> torch.Tensor:
        import numpy as np
        import torch

        from pytest_q3omni.nvfp4 import Packed, unpack_tensor

        module, used = self.name.removesuffix(".weight"), declared_layout(self.checkpoint)
        codes, scale, total = (self.checkpoint.array(f"{module}.{suffix}") for suffix in suffixes(used)[:3])
        factor = np.float32(1) / total.reshape(-1)[0] if used.inverted else total.reshape(-1)[0]
        return torch.from_numpy(unpack_tensor(Packed(codes, scale, factor), where=module)).to(torch.bfloat16)


def read_tensor(checkpoint: Checkpoint, name: str) -> torch.Tensor:
    """A stored tensor as it is.

    Raises:
        Inconsistent: a dtype that no unpacked weight of this model has.
    """
    import torch

    info = checkpoint.entries[name].info
    if info.dtype not in _TORCH:
        raise Inconsistent(
            f"dtype {info.dtype} without the scales of a packed weight", where=name, expected="BF16",
            fix="`q3omni verify` says what this checkpoint lacks",
        )  # fmt: skip
    return torch.from_numpy(checkpoint.read(name)).view(getattr(torch, _TORCH[info.dtype])).reshape(info.shape)


def packed_modules(checkpoint: Checkpoint) -> set[str]:
    """Modules whose weight is stored as NVFP4: U8 codes with block scale and global scale beside them.

    Raises:
        InvalidRequest: the config declares a quantization in a layout that this package does not know.
    """
    names, ends = checkpoint.entries, _suffixes(checkpoint)
    modules = (name.removesuffix(f".{ends.codes}") for name, entry in names.items() if entry.info.dtype == "U8")
    return {name for name in modules if {f"{name}.{ends.block_scale}", f"{name}.{ends.global_scale}"} <= names.keys()}


def declared_layout(checkpoint: Checkpoint) -> Layout:
    """The layout that the config declares; ModelOpt's where it declares none.

    Raises:
        InvalidRequest: the config declares a quantization in a layout that this package does not know.
    """
    block = checkpoint.config.get("quantization_config")
    if not isinstance(block, Mapping):
        return layout("modelopt")
    found = layout_of(block)
    if found is None:
        raise InvalidRequest(
            f"quantization_config of {block.get('quant_method')!r:.60}", where=str(checkpoint.path),
            expected="a layout that `q3omni quantize` writes", fix="pack the original with `q3omni quantize`",
        )  # fmt: skip
    return found


def _suffixes(checkpoint: Checkpoint) -> Suffixes:
    return suffixes(declared_layout(checkpoint))


def load_packed(checkpoint: Checkpoint, numerics: Numerics, *, speech: bool, device: str) -> Any:
    """A packed checkpoint as `Qwen3OmniMoeForConditionalGeneration` in eval mode; without `speech` its thinker alone.

    numerics: "w4a16" dequantizes the weights to BF16; "w4a4" rounds the inputs of the packed layers, too.

    Raises:
        MissingDependency, Incomplete, EngineError: see `load_model`.
        Inconsistent: "w4a4", and an input scale is no number, or belongs to no module.
    """
    modules = packed_modules(checkpoint)
    prefix = "" if speech else "thinker."
    tensors = as_bf16(checkpoint, modules, prefix)
    model = load_model(checkpoint.path, speech=speech, device=device, tensors=tensors)
    if numerics == "w4a4":
        scales = input_scales(checkpoint, modules)
        quantize_inputs(model, {name: scale for name, scale in scales.items() if name.startswith(prefix)})
    return model


def as_bf16(checkpoint: Checkpoint, modules: set[str], prefix: str = "") -> dict[str, BF16Tensor]:
    """Tensor name -> lazy BF16 tensor, under the names of the unquantized model; scales are gone.

    prefix: only tensors whose names begin with it.
    """
    names = (name for name in _weights(checkpoint, modules) if name.startswith(prefix))
    return {name: BF16Tensor(checkpoint, name, name.removesuffix(".weight") in modules) for name in names}


def _weights(checkpoint: Checkpoint, modules: set[str]) -> dict[str, str]:
    """Tensor of the unquantized model -> the one that is stored for it: itself, or a packed module's codes."""
    ends = _suffixes(checkpoint)
    parts = {f"{module}.{suffix}" for module in modules for suffix in ends}
    kept = {name: name for name in checkpoint.entries if name not in parts}
    return kept | {f"{module}.weight": f"{module}.{ends.codes}" for module in sorted(modules)}


def bf16_bytes(checkpoint: Checkpoint, modules: set[str], prefix: str = "") -> int:
    """Bytes in memory once packed tensors are BF16: a byte of codes becomes two weights of two bytes.

    prefix: only tensors whose names begin with it.
    """
    weights = ((name, stored) for name, stored in _weights(checkpoint, modules).items() if name.startswith(prefix))
    sizes = ((name, nbytes(checkpoint.entries[stored].info)) for name, stored in weights)
    return sum(4 * size if name.removesuffix(".weight") in modules else size for name, size in sizes)


def input_scales(checkpoint: Checkpoint, modules: set[str]) -> dict[str, float]:
    """Module -> input scale (amax / 2688, however it is stored), of the packed modules that have one.

    Raises:
        Inconsistent: an input scale that is NaN, Inf, zero or negative; named.
    """
    scales, used = {}, declared_layout(checkpoint)
    for module in sorted(modules):
        name = f"{module}.{suffixes(used).input_scale}"
        if name in checkpoint.entries:
            value = float(checkpoint.array(name).reshape(-1)[0])
            if not 0 < value < float("inf"):
                raise Inconsistent(f"input scale {value}", where=name, expected="finite and above 0",
                                   fix="calibrate and pack again")  # fmt: skip
            scales[module] = 1 / value if used.inverted else value
    return scales


def file_numerics(checkpoint: Checkpoint, modules: set[str]) -> Numerics:
    """What the file is made for: "w4a4" where packed modules have input scales, "w4a16" where not, else "bf16"."""
    if not modules:
        return "bf16"
    input_scale = _suffixes(checkpoint).input_scale
    return "w4a4" if any(f"{module}.{input_scale}" in checkpoint.entries for module in modules) else "w4a16"
