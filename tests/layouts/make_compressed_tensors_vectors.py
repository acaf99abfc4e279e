"""Write `data/compressed_tensors_vectors.safetensors`: what compressed-tensors makes of easy and of hard weights.

Our reader of that layout never meets its writer in the tests: the package does not depend on compressed-tensors, and
llm-compressor asks for older releases of torch and transformers than the `quantize` extra. These vectors stand in.
Run this once, in an environment of its own, on a CPU:

    pip install compressed-tensors==0.20.0     (needs torch, transformers, pydantic, loguru)
    python tests/layouts/make_compressed_tensors_vectors.py            # writes beside this file
    python tests/layouts/make_compressed_tensors_vectors.py --out DIR

One case is a group of tensors: NAME.weight (BF16, the source), NAME.weight_packed, NAME.weight_scale and
NAME.weight_global_scale (as files have them), NAME.values (F32, what compressed-tensors dequantizes them to, before it
rounds to BF16). NAME begins with a family; the docstring of each family says what it is after. Cases `fused.*.MEMBER`
share a global scale, as gate and up do. `input.global_scale` is the scale of activations whose amax is `input.amax`.
Statistics are taken in BF16, as llm-compressor does for models in BF16, except in family `float32`.
Everything is seeded.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

FILE = "compressed_tensors_vectors.safetensors"
RELEASE = "0.20.0"
BOUNDS = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)
Group = dict[str, torch.Tensor]
"""Name -> weight (out, in); the members share a global scale."""

_RANDOM = torch.Generator()


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=_RANDOM)


def pick(values: tuple[float, ...], *shape: int) -> torch.Tensor:
    return torch.tensor(values)[torch.randint(len(values), shape, generator=_RANDOM)]


def powers(low: int, high: int, *shape: int) -> torch.Tensor:
    return torch.exp2(torch.randint(low, high, shape, generator=_RANDOM).float())


def trained() -> Iterator[Group]:
    """Weights as they come, of several magnitudes and shapes; the first is not square, so exchanged axes show."""
    for number, (rows, columns, power) in enumerate([(8, 64, -5), (1, 16, 0), (3, 48, -12), (16, 32, 7), (5, 80, -20)]):
        yield {f"trained.{number}": normal(rows, columns) * 2.0**power}


def ties() -> Iterator[Group]:
    """Every quotient between two codes or next to that, under scales that are powers of two."""
    for number in range(4):
        blocks = pick(BOUNDS, 4, 4, 16) * (1 + pick((-(2.0**-7), 0.0, 2.0**-7), 4, 4, 16))
        blocks[..., 0] = 6
        yield {f"ties.{number}": (blocks * powers(-4, 4, 4, 4, 1) * pick((-1.0, 1.0), 4, 4, 16)).reshape(4, 64)}


def zeros() -> Iterator[Group]:
    """Blocks of 0, of -0.0, and of tiny negative weights beside large ones: codes 0 and 8 both mean zero."""
    weight = normal(8, 4, 16)
    weight[::2, 1], weight[1::2, 2] = 0, -0.0
    weight[:, 3, 1::2] = -(2.0**-40)
    yield {"zeros.0": weight.reshape(8, 64)}
    yield {"zeros.all": torch.zeros(2, 32)}
    yield {"zeros.group.live": normal(2, 32), "zeros.group.dead": torch.zeros(2, 32)}


def wide() -> Iterator[Group]:
    """Blocks from 2**-30 to 2**10: E4M3 scales that are subnormal, or zero and replaced by 0.125."""
    for number in range(2):
        yield {f"wide.{number}": (normal(8, 8, 16) * powers(-30, 11, 8, 8, 1)).reshape(8, 128)}


def extremes() -> Iterator[Group]:
    """BF16 subnormals, and the largest finite values: the global scale falls back to 1, or becomes tiny."""
    yield {"extremes.subnormal": normal(4, 32) * 2.0**-130}
    yield {"extremes.huge": normal(4, 32).clamp(-2, 2) * 2.0**126}


def fused() -> Iterator[Group]:
    """Two and three members of unequal magnitude under one global scale."""
    yield {"fused.0.gate_proj": normal(8, 32), "fused.0.up_proj": 0.3 * normal(8, 32)}
    yield {f"fused.1.{name}_proj": power * normal(4, 32) for name, power in (("q", 1.0), ("k", 3.0), ("v", 0.01))}


def float32() -> Iterator[Group]:
    """The same rule with statistics in float32: a model that was loaded in float32."""
    yield {"float32.0": 0.02 * normal(8, 64)}


def cases() -> list[Group]:
    """All groups, in order; the same on every call."""
    _RANDOM.manual_seed(20261124)
    families = (trained, ties, zeros, wide, extremes, fused, float32)
    return [
        {name: weight.to(torch.bfloat16) for name, weight in group.items()} for family in families for group in family()
    ]


def pack(group: Group) -> dict[str, torch.Tensor]:
    """The tensors of a group, by compressed-tensors' own functions."""
    from compressed_tensors.compressors.nvfp4 import NVFP4PackedCompressor, unpack_fp4_from_uint8
    from compressed_tensors.quantization import preset_name_to_scheme
    from compressed_tensors.quantization.lifecycle.forward import dequantize
    from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

    scheme = preset_name_to_scheme("NVFP4A16", ["Linear"])
    dtype = torch.float32 if next(iter(group)).startswith("float32") else torch.bfloat16
    amax = torch.stack([weight.abs().amax() for weight in group.values()]).amax().to(dtype).reshape(1)
    global_scale = generate_gparam(-amax, amax)
    tensors = {}
    for name, source in group.items():
        weight = source.to(dtype)
        blocks = weight.unflatten(-1, (-1, 16))
        scale, _ = calculate_qparams(blocks.amin(-1), blocks.amax(-1), scheme.weights, global_scale=global_scale)
        state = {"weight": weight, "weight_scale": scale.to(dtype), "weight_global_scale": global_scale.clone()}
        packed = NVFP4PackedCompressor.compress(state, scheme)
        codes = unpack_fp4_from_uint8(packed["weight_packed"], *weight.shape, dtype=torch.float32)
        values = dequantize(codes, packed["weight_scale"].float(), args=scheme.weights, global_scale=global_scale)
        named = {"weight": source, **packed, "values": values}
        tensors |= {f"{name}.{role}": tensor.contiguous() for role, tensor in named.items()}
    return tensors


def vectors() -> dict[str, torch.Tensor]:
    """Everything the file holds."""
    from compressed_tensors.quantization.utils import generate_gparam

    tensors = {name: tensor for group in cases() for name, tensor in pack(group).items()}
    amax = torch.tensor([13.625])
    return tensors | {"input.amax": amax, "input.global_scale": generate_gparam(-amax, amax)}


def main() -> None:
    import compressed_tensors
    from safetensors.torch import save_file

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    arguments = parser.parse_args()
    if compressed_tensors.__version__ != RELEASE:
        raise SystemExit(
            f"compressed-tensors {compressed_tensors.__version__} is installed; the vectors are {RELEASE}'s"
        )
    torch.set_num_threads(1)
    found = vectors()
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_file(found, arguments.out / FILE, metadata={"made_by": f"compressed-tensors {RELEASE}"})
    sys.stdout.write(f"wrote {arguments.out / FILE}: {len(found)} tensors\n")


if __name__ == "__main__":
    main()
