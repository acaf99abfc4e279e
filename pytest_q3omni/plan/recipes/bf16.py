"""Nothing packed: the control. It shows what the way itself changes, which is nothing."""

from pytest_q3omni.plan.recipes._protocol import Recipe

RECIPE = Recipe(name="bf16", summary="nothing packed: the control", numerics="bf16")
