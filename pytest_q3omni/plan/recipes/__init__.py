"""Recipes: one file each. A recipe says which parts of which stages are packed, and in which numerics they run."""

from __future__ import annotations

from pytest_q3omni.plan.recipes._protocol import Recipe
from pytest_q3omni.registry import load, names

__all__ = ["Recipe", "recipe", "recipe_names"]


def recipe_names() -> tuple[str, ...]:
    """The known recipes, sorted."""
    return names(__name__)


def recipe(name: str) -> Recipe:
    """The recipe `name`.

    Raises:
        UnknownName: no such recipe; suggests the nearest.
    """
    found: Recipe = load(__name__, name).RECIPE
    return found
