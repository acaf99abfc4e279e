"""W4A16 on the thinker's experts, blocks of 16: ModelOpt's NVFP4_MLP_WEIGHT_ONLY_CFG made servable.

ModelOpt's own config packs with blocks of 32, which serving kernels refuse, and everything whose name matches `*mlp*`.
"""

import re

from pytest_q3omni.plan.recipes._protocol import Recipe
from pytest_q3omni.records import Plan

_MODELOPT_PATTERN = re.compile(r".*\bmlp\b.*\.weight")


def _remark(plan: Plan) -> str:
    """How much ModelOpt's `*mlp*` pattern would cover, and why this recipe covers less."""
    matched = [tensor.source.shape for tensor in plan.tensors if _MODELOPT_PATTERN.fullmatch(tensor.source.name)]
    share = sum(shape[0] * shape[1] for shape in matched if len(shape) == 2) / plan.parameters
    return (
        f"ModelOpt's *mlp* pattern matches {share:.2%} of the parameters: it also counts routers, talker, code "
        f"predictor, code2wav and vision, which no engine serves packed. This recipe packs the "
        f"{plan.quantized_fraction:.2%} that are the thinker's experts."
    )


RECIPE = Recipe(
    name="nvfp4-mlp-weight-only",
    summary="thinker experts, weights in 4 bits (W4A16); needs no calibration",
    numerics="w4a16",
    packs={"thinker": ("experts",)},
    remark=_remark,
)
