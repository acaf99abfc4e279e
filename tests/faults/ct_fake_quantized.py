"""Everything is BF16 under compressed-tensors' declaration: a checkpoint that was never compressed."""

from pathlib import Path

from _checkpoint_edit import COMPRESSED, Fault, original, write

from pytest_q3omni.omni.checkpoint import scan


def break_(directory: Path) -> None:
    ends = tuple(f".{suffix}" for suffix in COMPRESSED)
    modules = {name.rpartition(".")[0] for name in scan(directory).entries if name.endswith(ends)}
    gone = {name: None for name in scan(directory).entries if name.endswith(ends)}
    write(directory, {**gone, **{f"{module}.weight": original(f"{module}.weight") for module in sorted(modules)}})


FAULT = Fault("quantized-at-all", "model.safetensors", "silent non-quantization", break_, base="ct-w4a4")
