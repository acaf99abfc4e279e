"""W4A4 on the thinker's experts and attention: what Thor and Blackwell compute fastest. Needs calibration."""

from pytest_q3omni.plan.recipes._protocol import Recipe

RECIPE = Recipe(
    name="nvfp4-default",
    summary="thinker experts and attention, weights and activations in 4 bits (W4A4)",
    numerics="w4a4",
    packs={"thinker": ("experts", "attention")},
)
