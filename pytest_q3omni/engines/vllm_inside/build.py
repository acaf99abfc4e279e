"""vLLM's configuration and model of one checkpoint, by vLLM's own code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Tensor = tuple[str, str, tuple[int, ...], str, int, int]
"""Name, dtype in safetensors' spelling, shape, file, first byte and the byte after the last."""

_STAGE = "thinker."

DTYPES = {
    "BF16": "bfloat16",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "U8": "uint8",
    "I8": "int8",
    "BOOL": "bool",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "C64": "complex64",
}


def engine_config(model: str) -> Any:
    """The configuration that vLLM makes of the folder `model`, as for serving it."""
    from vllm.engine.arg_utils import EngineArgs

    options: dict[str, Any] = {"enforce_eager": True, "skip_tokenizer_init": True, "load_format": "dummy"}
    return EngineArgs(model=model, **options).create_engine_config()


def build_model(config: Any, device: str) -> Any:
    """The model without weights, on "meta" (no memory at all) or "cpu"."""
    import torch
    from vllm.model_executor.model_loader.utils import initialize_model

    with torch.device(device):
        return initialize_model(vllm_config=config)


def _dtype(name: str, dtype: str) -> Any:
    import torch

    found = getattr(torch, DTYPES.get(dtype, ""), None)
    if found is None:
        raise ValueError(f"{name} is {dtype}, which torch {torch.__version__} does not have")
    return found


class Feed:
    """The checkpoint's tensors, one after another as vLLM's loader asks for them. last: the one it asked for last."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self._tensors = tensors
        self.last = ""

    def without_data(self) -> Iterator[tuple[str, Any]]:
        """Tensors of the right dtype and shape that hold nothing."""
        import torch

        for name, dtype, shape, *_ in self._tensors:
            self.last = name
            yield name, torch.empty(shape, dtype=_dtype(name, dtype), device="meta")

    def from_files(self) -> Iterator[tuple[str, Any]]:
        """Tensors as stored. Read at the offsets that the caller has checked against the files."""
        import torch

        for name, dtype, shape, file, begin, end in self._tensors:
            self.last = name
            data = torch.empty(end - begin, dtype=torch.uint8)
            with open(file, "rb", buffering=0) as stream:  # noqa: PTH123
                stream.seek(begin)
                done = 0
                while done < end - begin:
                    count = stream.readinto(data.numpy()[done:])
                    if not count:
                        raise OSError(f"{file} ends within {name}")
                    done += count
            yield name, data.view(_dtype(name, dtype)).reshape(shape)


def checkpoint_names(model: Any, tensors: list[Tensor]) -> dict[str, str]:
    """How vLLM's names begin -> how the checkpoint's do, from the map that the model's loader uses."""
    prefixes: Mapping[str, str | None] = getattr(getattr(model, "hf_to_vllm_mapper", None), "orig_to_new_prefix", {})
    whole = any(name.startswith(_STAGE) for name, *_ in tensors)  # the map has the names of a thinker alone, too
    used = [(old, new) for old, new in prefixes.items() if new is not None and old.startswith(_STAGE) == whole]
    return {new: old for old, new in reversed(used)}


def in_checkpoint(name: str, prefixes: Mapping[str, str]) -> str:
    """A module's name as the checkpoint spells it."""
    name = f"{name.removesuffix('.routed_experts')}."  # the map's names end in a dot
    longest = next((new for new in sorted(prefixes, key=len, reverse=True) if name.startswith(new)), "")
    return (prefixes.get(longest, "") + name.removeprefix(longest)).removesuffix(".")
