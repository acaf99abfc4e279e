"""Write `data/nvfp4_cuda_vectors.safetensors`: what ModelOpt's CUDA operator makes of easy and of hard inputs.

The package brings its own CPU kernel for that operator (`pytest_q3omni/engines/fake_quant.py`). Were the kernel
compared with itself only, it would be judge and judged at once; `test_cuda_vectors.py` compares it with these vectors.
Run this once, on a host with a CUDA GPU of capability 8.9 or higher (below it ModelOpt takes another code path):

    python3 tests/engines/make_cuda_vectors.py            # writes beside this file
    python3 tests/engines/make_cuda_vectors.py --out DIR  # writes DIR/nvfp4_cuda_vectors.safetensors
    python3 tests/engines/make_cuda_vectors.py --dry-run  # any host: builds the inputs and prints the sizes

Needs torch with Triton, safetensors and nvidia-modelopt 0.47. ModelOpt's imports beyond torch, transformers and the
scientific stack: nvidia-modelopt==0.47.0, omegaconf==2.4.0 (needs PyYAML alone; 2.3 wants antlr4), pulp<4, pydantic,
the pydantic-core that it pins, annotated-types, typing-inspection, typing-extensions; and requests, which it does not
declare. All are wheels. No nvcc: on these GPUs the operator is a Triton kernel, which Triton compiles itself (a C
compiler and Python.h for its launcher are enough). ModelOpt's C++ extensions are never loaded.

    PYTHONPATH=. python3 tests/engines/make_cuda_vectors.py --count 100000000

also says how many of that many normal values the operator rounds otherwise than the package's kernel: Triton divides
with `div.full.f32`, which is off by up to two units in the last place.

One case is a group of tensors: NAME.input (BF16, some F32 and F16), NAME.amax (F32 or BF16), NAME.global_scale (F32 [],
`amax.float() / (6 * 448)` as torch computes it on the GPU), NAME.output (dtype of the input). NAME begins with a
family; the docstring of each family says what it is after. Everything is seeded.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

FILE = "nvfp4_cuda_vectors.safetensors"
BOUNDS = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)
Case = tuple[str, torch.Tensor, torch.Tensor]
RANDOM = torch.Generator().manual_seed(20261124)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=RANDOM)


def scalar(value: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(value, dtype=dtype)


def neighbours(values: torch.Tensor) -> torch.Tensor:
    """Each positive BF16 value, the one below and the one above it, and the three negated."""
    bits = values.to(torch.bfloat16).view(torch.int16)
    near = torch.cat([bits - 1, bits, bits + 1]).view(torch.bfloat16).float()
    return torch.cat([near, -near])


def rows(values: torch.Tensor, block_amax: float) -> torch.Tensor:
    """Blocks of 16: `block_amax` first, then 15 of the values."""
    padded = torch.nn.functional.pad(values, (0, -len(values) % 15)).reshape(-1, 15)
    return torch.cat([torch.full((len(padded), 1), block_amax), padded], dim=1)


def typical() -> Iterator[Case]:
    """Activations as they come: normal, then heavy-tailed; amax is the data's own, as calibration on it would find."""
    for number, shape in enumerate([(32, 128), (16, 256), (4, 256), (1, 16), (3, 48), (2, 8, 64), (1, 1, 512)] * 3):
        data = (normal(*shape) * 2.0 ** (number - 10)).to(torch.bfloat16)
        yield f"normal.{number:02d}", data, data.abs().amax()
    for number in range(12):
        data = (normal(32, 96) * torch.exp(2 * normal(32, 96))).to(torch.bfloat16)
        yield f"heavy.{number:02d}", data, data.abs().amax().float()


def misfit() -> Iterator[Case]:
    """amax smaller than the data (the block scale saturates at 448), or far larger (it runs into E4M3's subnormals)."""
    for number, factor in enumerate([0.9, 0.5, 0.25, 0.1, 0.03, 0.01, 1e-4]):
        data = normal(16, 64).to(torch.bfloat16)
        yield f"saturated.{number:02d}", data, data.abs().amax().float() * factor
    for number, factor in enumerate([1.5, 4.0, 30.0, 200.0, 1e3, 1e4, 1e5, 1e7]):
        data = (normal(16, 64) * torch.exp(2 * normal(16, 64))).to(torch.bfloat16)
        yield f"oversized.{number:02d}", data, data.abs().amax().float() * factor


def ties() -> Iterator[Case]:
    """Quotients at and beside every E2M1 bound. amax 2688 x 2^k makes the global scale 2^k, so that they are exact."""
    for number, exponent in enumerate((-8, -3, 0, 5)):
        for mantissa in (8, 9, 11, 12, 14, 15):  # block scale mantissa / 8; only 8 has an exact reciprocal
            scale = mantissa / 8 * 2.0**exponent
            values = neighbours(torch.tensor(BOUNDS) * scale)
            name = f"{'ties' if mantissa == 8 else 'ties_inexact'}.{number}.{mantissa:02d}"
            yield name, rows(values, 6 * scale).to(torch.bfloat16), scalar(2688 * 2.0**exponent)


def scales() -> Iterator[Case]:
    """Block amaxes at and beside the E4M3 rounding boundaries, normal and subnormal, with filling of every size."""
    middle = torch.tensor([(2 * step + 1) / 16 for step in range(8, 16)])  # between neighbours of mantissa 1.0 .. 1.875
    for number, exponent in enumerate((-6, -3, 0, 4, 8)):
        wanted = neighbours(6 * middle * 2.0**exponent)
        filling = normal(len(wanted), 15).clamp(-0.99, 0.99) * wanted.abs()[:, None]
        data = torch.cat([wanted[:, None], filling], dim=1)
        yield f"scale_boundary.{number}", data.to(torch.bfloat16), scalar(2688.0)
    for number, global_scale in enumerate((1.0, 2.0**-4, 2.0**6)):
        wanted = neighbours(6 * torch.tensor([step / 2 for step in range(1, 17)]) * 2.0**-9 * global_scale)
        filling = normal(len(wanted), 15).clamp(-0.99, 0.99) * wanted.abs()[:, None]
        data = torch.cat([wanted[:, None], filling], dim=1)
        yield f"scale_subnormal.{number}", data.to(torch.bfloat16), scalar(2688 * global_scale)
    for number, amax in enumerate((0.02, 0.3, 5.0, 27.0)):  # the kernel replaces final scales below 1e-5 by 1
        sizes = 6e-5 * torch.exp2(torch.linspace(-3, 3, 48))
        data = sizes[:, None] * torch.rand(48, 16, generator=RANDOM)
        yield f"scale_floor.{number}", data.to(torch.bfloat16), scalar(amax)


def zeros() -> Iterator[Case]:
    """Zero blocks, zero tensors, negative zero, and negatives so small that their code is zero."""
    data = normal(8, 64).to(torch.bfloat16)
    data[:, 16:32] = 0
    data[2] = -0.0
    yield "zero_blocks.0", data, data.abs().amax()
    yield "zero_tensor.0", torch.zeros(4, 32, dtype=torch.bfloat16), scalar(1.0)
    yield "zero_tensor.1", torch.zeros(4, 32, dtype=torch.bfloat16), scalar(0.0)
    yield "zero_tensor.2", torch.full((4, 32), -0.0, dtype=torch.bfloat16), scalar(3.0)
    yield "zero_amax.0", normal(4, 32).to(torch.bfloat16), scalar(0.0)
    yield "zero_amax.1", normal(4, 32).to(torch.bfloat16), scalar(-1.0)
    for number, tiny in enumerate((2.0**-133, 2.0**-126, 2.0**-60, 2.0**-20, 1e-3)):
        data = torch.where(normal(8, 48) > 0, normal(8, 48), torch.full((8, 48), -tiny)).to(torch.bfloat16)
        yield f"tiny_negative.{number}", data, data.abs().amax()


def extremes() -> Iterator[Case]:
    """The ends of BF16: subnormals and the largest values, with amaxes of their own size; Inf and NaN."""
    for number, size in enumerate((2.0**-130, 2.0**-126, 2.0**-110, 2.0**-100, 2.0**-40)):
        data = (normal(8, 32).clamp(-3, 3) * size).to(torch.bfloat16)
        yield f"small.{number}", data, data.abs().amax()
    for number, size in enumerate((2.0**60, 2.0**100, 2.0**120, 2.0**126)):
        data = (normal(8, 32).clamp(-1.9, 1.9) * size).to(torch.bfloat16)
        yield f"huge.{number}", data, data.abs().amax()
    mixed = (torch.exp2(torch.linspace(-130, 127, 512)) * normal(512).sign()).reshape(8, 64).to(torch.bfloat16)
    yield "huge.4", mixed, mixed.abs().amax()
    yield "huge.5", mixed[:, torch.randperm(64, generator=RANDOM)].contiguous(), scalar(1.0)
    for number, value in enumerate((float("inf"), float("-inf"), float("nan"))):
        data = normal(4, 32).to(torch.bfloat16)
        data[1, 5] = value
        yield f"not_finite.{number}", data, scalar(3.0)
    yield "not_finite.3", torch.full((2, 16), float("nan"), dtype=torch.bfloat16), scalar(3.0)


def shapes() -> Iterator[Case]:
    """Rows that are no multiple of 16 (the kernel pads with zeros), other dtypes, an amax of several elements."""
    for number, width in enumerate((1, 8, 17, 40, 72)):
        data = normal(5, width).to(torch.bfloat16)
        yield f"ragged.{number}", data, data.abs().amax()
    yield "one_dimension.0", normal(96).to(torch.bfloat16), scalar(3.0)
    yield "float32.0", normal(8, 32), scalar(3.0)
    yield "float32.1", normal(8, 32) * torch.exp(3 * normal(8, 32)), scalar(100.0)
    yield "float16.0", normal(8, 32).to(torch.float16), scalar(3.0)
    yield "several_amax.0", normal(8, 32).to(torch.bfloat16), torch.tensor([1.0, 4.0, 2.0])


def cases() -> list[Case]:
    found = [case for family in (typical, misfit, ties, scales, zeros, extremes, shapes) for case in family()]
    names = [name for name, _, _ in found]
    if len(set(names)) != len(names):
        raise SystemExit("two cases have the same name")
    return found


def on_cuda(found: list[Case]) -> dict[str, torch.Tensor]:
    """Run ModelOpt's operator on every case: E2M1 data (4 bits, 2 of them exponent), E4M3 scales, blocks of 16."""
    import modelopt.torch.kernels.quantization.gemm as kernels
    import modelopt.torch.quantization  # noqa: F401  registers the operator

    if not getattr(kernels, "fp4_fake_quant_block", None):
        raise SystemExit("ModelOpt has no Triton kernel here: needs Triton and a GPU of capability 8.9 or higher")
    written: dict[str, torch.Tensor] = {}
    for name, data, amax in found:
        given, largest = data.cuda(), amax.cuda()
        output = torch.ops.tensorrt.dynamic_block_quantize_op(given, 16, largest, 4, 2, 8, 4)
        total = largest.amax() if largest.numel() != 1 else largest
        tensors = {"input": data, "amax": amax, "global_scale": total.float() / (6.0 * 448.0), "output": output}
        written |= {f"{name}.{key}": tensor.cpu().contiguous() for key, tensor in tensors.items()}
    return written


def count_differences(total: int) -> tuple[int, int]:
    """(elements that differ, elements tried): the operator against the package's kernel, both on the GPU."""
    from pytest_q3omni.engines.fake_quant import nvfp4_fake_quantize

    differing = tried = 0
    while tried < total:
        data = torch.randn(4096, 4096, device="cuda").to(torch.bfloat16)
        amax = data.abs().amax()
        theirs = torch.ops.tensorrt.dynamic_block_quantize_op(data, 16, amax, 4, 2, 8, 4)
        differing += int((theirs != nvfp4_fake_quantize(data, amax)).sum())
        tried += data.numel()
    return differing, tried


def versions() -> dict[str, str]:
    import modelopt
    import triton

    capability = ".".join(map(str, torch.cuda.get_device_capability()))
    made_by = {"gpu": torch.cuda.get_device_name(), "capability": capability, "torch": torch.__version__}
    return {"made_by": json.dumps({**made_by, "triton": triton.__version__, "modelopt": modelopt.__version__})}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--count", type=int, default=0)
    arguments = parser.parse_args()
    found = cases()
    size = sum(2 * data.nbytes + amax.nbytes + 4 for _, data, amax in found)
    sys.stdout.write(f"{len(found)} cases, {4 * len(found)} tensors, {size} bytes of data\n")
    if arguments.dry_run:
        return
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA GPU; --dry-run builds the inputs without one")
    from safetensors.torch import save_file

    written = on_cuda(found)
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_file(written, arguments.out / FILE, metadata=versions())
    sys.stdout.write(f"wrote {arguments.out / FILE} {versions()['made_by']}\n")
    if arguments.count:
        differing, tried = count_differences(arguments.count)
        sys.stdout.write(f"{differing} of {tried} values differ from the package's kernel\n")


if __name__ == "__main__":
    main()
