"""Sizes.

From the config of the full-size model and the plan: no weights are needed to count them.
"""

import re
from importlib.resources import files
from math import prod
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from outcomes import Outcome

from pytest_q3omni.nvfp4 import pack_tensor, unpack_tensor
from pytest_q3omni.omni.checkpoint import open_checkpoint
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.plan.build import build_plan
from pytest_q3omni.records import Plan

pytestmark = pytest.mark.tiny

FULL_SIZE = Path(str(files("pytest_q3omni.omni") / "qwen3_omni_30b_config.json"))
GIB = 2**30
EXPERT = "thinker.model.layers.0.mlp.experts.0.gate_proj.weight"


@pytest.fixture(scope="module")
def default() -> Plan:
    return build_plan(FULL_SIZE, "nvfp4-default")


@pytest.fixture(scope="module")
def weight_only() -> Plan:
    return build_plan(FULL_SIZE, "nvfp4-mlp-weight-only")


def named_mlp(plan: Plan) -> int:
    """Parameters of matrices with `mlp` in their name."""
    sources = (tensor.source for tensor in plan.tensors)
    return sum(prod(s.shape) for s in sources if re.search(r"\bmlp\b.*\.weight$", s.name) and len(s.shape) == 2)


def bits_per_weight() -> float:
    """Of a packed matrix: codes and block scales; its one global scale is left out."""
    made = pack_tensor(np.ones((64, 128), ml_dtypes.bfloat16))
    return 8 * (made.codes.nbytes + made.block_scale.nbytes) / (64 * 128)


def test_parameter_count(outcome: Outcome, default: Plan) -> None:
    """The model has 35.26B parameters, 66 GB."""
    count, size = default.parameters, default.source_bytes
    finding = f'{count:,} parameters; {size / GIB:.2f} GiB in BF16, which is {size / 1e9:.2f} GB. Its "GB" are GiB.'
    with outcome.confirms(finding):
        assert f"{count / 1e9:.2f}" == "35.26"
        assert f"{size / GIB:.0f}" == "66"


def test_four_times_smaller(outcome: Outcome, default: Plan) -> None:
    """FP4 makes 16 GB of 66 GB, four times less."""
    bits = bits_per_weight()
    floor = default.parameters * bits / 8
    assert default.tensor_bytes > floor
    finding = f"""A weight takes {bits} bits with its share of a block scale, so {16 / bits:.2f}x and
        {floor / GIB:.1f} GiB are the limit, with every parameter packed. What an engine serves:
        {default.tensor_bytes / GIB:.2f} GiB, {default.compression_ratio:.2f}x (recipe `nvfp4-default`)."""
    with outcome.refutes(finding):
        assert 16 / bits >= 4


def test_mlp_share_as_counted(outcome: Outcome, weight_only: Plan) -> None:
    """Weight-only quantization of the MLPs covers 92.4 % of the parameters, 32.59B."""
    count = named_mlp(weight_only)
    finding = f"""As counted: {count / 1e9:.2f}B of {weight_only.parameters / 1e9:.2f}B parameters have `mlp` in their
        name, {count / weight_only.parameters:.2%}. No engine serves all of them packed; the thinker's experts, which
        engines do serve, are {weight_only.quantized_fraction:.2%}."""
    with outcome.confirms(finding):
        assert f"{count / 1e9:.2f}" == "32.59"
        assert f"{count / weight_only.parameters:.1%}" == "92.4%"


def test_mlp_share_of_transformers(outcome: Outcome, weight_only: Plan) -> None:
    """MLP weights are about 60-70 % of the parameters."""
    share, experts = named_mlp(weight_only) / weight_only.parameters, weight_only.quantized_fraction
    assert experts < share
    with outcome.refutes(f"{share:.2%} here: of a mixture of experts. The thinker's experts alone are {experts:.2%}."):
        assert 0.60 <= share <= 0.70


def test_weight_only_size(outcome: Outcome, weight_only: Plan) -> None:
    """Weight-only FP4 of the MLPs gives 22-33 GB, 2-3x smaller."""
    size, ratio = weight_only.tensor_bytes, weight_only.compression_ratio
    rest = weight_only.parameters - named_mlp(weight_only)
    everything = named_mlp(weight_only) * bits_per_weight() / 8 + 2 * rest
    finding = f"""{size / GIB:.2f} GiB, {ratio:.2f}x, where weights are really packed (recipe `{weight_only.recipe}`);
        {everything / GIB:.1f} GiB with everything named `mlp`. The investigation's own file kept 66."""
    with outcome.confirms(finding):
        assert 22 <= size / GIB <= 33
        assert 2 <= ratio <= 3


def test_repeated_packing_loses_quality(outcome: Outcome) -> None:
    """Weights that are stored packed lose quality by repeated compression and decompression."""
    checkpoint = open_checkpoint(checkpoint_path())
    shape = checkpoint.entries[EXPERT].info.shape
    weight = checkpoint.read(EXPERT).view(ml_dtypes.bfloat16).reshape(shape)
    once = unpack_tensor(pack_tensor(weight))
    again = unpack_tensor(pack_tensor(once.astype(ml_dtypes.bfloat16)))
    assert not np.array_equal(weight.astype(np.float32), once), "packing rounds, once"
    finding = f"""Rounding happens once: {weight.size:,} trained weights that are packed, unpacked to BF16 and packed
        again mean the same numbers, every one of them."""
    with outcome.refutes(finding):
        assert not np.array_equal(once, again)
