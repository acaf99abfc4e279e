"""Our kernel for ModelOpt's NVFP4 operator against what ModelOpt's CUDA kernel made, bit for bit.

`make_cuda_vectors.py` wrote the vectors on a GPU. Triton divides by multiplying with the GPU's reciprocal, which may be
off by one unit in the last place (PTX ISA, `rcp.approx`); ours is rounded to nearest. So every block must be equal bit
for bit for one reciprocal within a unit, and all but a few for the nearest one.
"""

import itertools
import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.tiny

_REASON = "needs the quantize extra: pip install pytest-q3omni[quantize]"
torch = pytest.importorskip("torch", reason=_REASON)
safetensors = pytest.importorskip("safetensors", reason="needs safetensors")

import make_cuda_vectors  # noqa: E402

from pytest_q3omni.engines import fake_quant  # noqa: E402

VECTORS = Path(__file__).parent / "data" / "nvfp4_cuda_vectors.safetensors"
UNITS = (0, -1, 1)
EXCEPTIONS = 13
"""Blocks of 6658 that may differ for the nearest reciprocal; 10 do."""


@pytest.fixture(scope="module")
def vectors():
    found = {}
    with safetensors.safe_open(VECTORS, "pt") as file:
        for key in file.keys():  # noqa: SIM118 (not a dict)
            name, _, role = key.rpartition(".")
            found.setdefault(name, {})[role] = file.get_tensor(key)
    return found


def bits(tensor):
    return tensor.contiguous().view({2: torch.int16, 4: torch.int32}[tensor.element_size()])


def equal_blocks(left, right):
    """Per block of 16 along the last axis: all bits equal."""
    same = (bits(left) == bits(right)).reshape(-1, left.shape[-1])
    return torch.nn.functional.pad(same, (0, -left.shape[-1] % 16), value=True).reshape(-1, 16).all(dim=1)


def first_difference(ours, theirs, data, blocks):
    """Position and values of the first element that differs in a block marked False."""
    width = data.shape[-1]
    wrong = (~blocks).reshape(-1, -(-width // 16)).repeat_interleave(16, dim=1)[:, :width]
    differs = (bits(ours) != bits(theirs)).reshape(-1, width) & wrong
    row, column = (int(index) for index in differs.nonzero()[0])
    values = [float(tensor.reshape(-1, width)[row, column]) for tensor in (data, ours, theirs)]
    return f"[{row}, {column}]: {values[0]!r} gives {values[1]!r}, on CUDA {values[2]!r}"


def with_reciprocals(monkeypatch, of_scale, of_quotient):
    """The kernel's two reciprocals (first the block scale's, then the quotient's), off by so many units."""
    units = iter((of_scale, of_quotient))

    def reciprocal(values):
        exact = 1 / values
        return (exact.view(torch.int32) + next(units)).view(torch.float32)

    monkeypatch.setattr(fake_quant, "_reciprocal", reciprocal)


def test_vectors_are_what_they_should_be(vectors):
    assert len(vectors) >= 100
    assert VECTORS.stat().st_size <= 1_000_000
    with safetensors.safe_open(VECTORS, "pt") as file:
        made_by = json.loads(file.metadata()["made_by"])
    assert made_by["modelopt"].startswith("0.47")
    assert float(made_by["capability"]) >= 8.9, "below it ModelOpt takes another code path"


def test_the_script_and_its_vectors_belong_together(vectors):
    """Names, shapes and dtypes; the values, too, where no random number is involved."""
    found = {name: (data, amax) for name, data, amax in make_cuda_vectors.cases()}
    assert found.keys() == vectors.keys()
    for name, (data, amax) in found.items():
        stored = vectors[name]["input"], vectors[name]["amax"]
        assert [(item.shape, item.dtype) for item in stored] == [(item.shape, item.dtype) for item in (data, amax)], (
            name
        )
        if name.startswith("ties"):
            assert torch.equal(stored[0], data)
            assert torch.equal(stored[1], amax)


def test_every_hard_case_is_among_them(vectors):
    families = {name.split(".")[0] for name in vectors}
    assert families >= {
        "normal", "heavy", "saturated", "oversized", "ties", "ties_inexact", "scale_boundary", "scale_subnormal",
        "scale_floor", "zero_blocks", "zero_tensor", "zero_amax", "tiny_negative", "small", "huge", "not_finite",
        "ragged",
    }  # fmt: skip


def test_the_global_scale_is_a_product_with_the_reciprocal(vectors):
    """On CUDA; as a quotient (so on the CPU) it differs in some vectors, or this test would prove nothing."""
    quotients_differ = 0
    for name, vector in vectors.items():
        amax = vector["amax"].float().amax()
        assert amax * (1 / 2688) == vector["global_scale"], name
        quotients_differ += bool(amax / 2688 != vector["global_scale"])
    assert quotients_differ > 0


def test_every_block_is_equal_for_a_reciprocal_within_one_unit(vectors, monkeypatch):
    for name, vector in vectors.items():
        explained = None
        for of_scale, of_quotient in itertools.product(UNITS, UNITS):
            with_reciprocals(monkeypatch, of_scale, of_quotient)
            ours = fake_quant.nvfp4_fake_quantize(vector["input"], vector["amax"])
            same = equal_blocks(ours, vector["output"])
            explained = same if explained is None else explained | same
            if explained.all():
                break
        assert explained.all(), f"{name}{first_difference(ours, vector['output'], vector['input'], explained)}"


def test_all_but_a_few_blocks_are_equal_for_the_nearest_reciprocal(vectors):
    different = []
    for name, vector in vectors.items():
        ours = fake_quant.nvfp4_fake_quantize(vector["input"], vector["amax"])
        assert ours.dtype == vector["output"].dtype
        assert ours.shape == vector["output"].shape
        same = equal_blocks(ours, vector["output"])
        if not same.all():
            where = first_difference(ours, vector["output"], vector["input"], same)
            different.append((int((~same).sum()), f"{name}{where}"))
    assert sum(count for count, _ in different) <= EXCEPTIONS, different


def test_ties_of_exact_quotients_are_equal_without_exception(vectors):
    """Block scales that are powers of two have exact reciprocals: there the GPU has no way to differ."""
    exact = [vector for name, vector in vectors.items() if name.startswith("ties.")]
    assert len(exact) >= 4
    for vector in exact:
        ours = fake_quant.nvfp4_fake_quantize(vector["input"], vector["amax"])
        assert torch.equal(bits(ours), bits(vector["output"]))


@pytest.mark.parametrize(
    ("broken", "source"),
    [
        ("rounds ties away from zero", ("quotient / step).round()", "quotient / step + 0.5).floor()")),
        ("keeps small scales", ("_SMALLEST_SCALE, scale, 1.0)", "0.0, scale, 1.0)")),
        ("clamps scales as weights do", (".clamp(max=E4M3_MAX)\n    scale", ".clamp(2.0**-9, E4M3_MAX)\n    scale")),
        ("forgets the saturation", ("step).clamp(max=E2M1_MAX)", "step)")),
        ("keeps the sign of zero", ("0 - rounded", "-rounded")),
    ],
)
def test_a_broken_kernel_is_caught(vectors, broken, source):
    text = Path(fake_quant.__file__).read_text(encoding="utf-8")
    assert text.count(source[0]) == 1
    names: dict = {"__name__": "broken"}
    exec(compile(text.replace(*source), "broken", "exec"), names)
    wrong = sum(
        int((~equal_blocks(names["nvfp4_fake_quantize"](vector["input"], vector["amax"]), vector["output"])).sum())
        for vector in vectors.values()
    )
    assert wrong > EXCEPTIONS, f"a kernel that {broken} passes"


def test_a_changed_vector_is_caught(vectors):
    vector = vectors["normal.00"]
    changed = vector["output"].clone()
    changed[3, 7] = -changed[3, 7] if changed[3, 7] else 1.0
    ours = fake_quant.nvfp4_fake_quantize(vector["input"], vector["amax"])
    same = equal_blocks(ours, changed)
    assert not same.all()
    assert "[3, 7]" in first_difference(ours, changed, vector["input"], same)
