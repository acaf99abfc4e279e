"""Comparisons of the tiny model with packed copies of it; the reference is measured once per session."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pytest_q3omni.omni.conversations import Conversation, load_conversations
from pytest_q3omni.omni.tiny import checkpoint_path, conversations_path
from pytest_q3omni.parity.compare import Reference, compare_with, measure_reference
from pytest_q3omni.pipeline.parity import compare_checkpoints, contestants
from pytest_q3omni.records import Parity, no_progress

sys.path.insert(0, str(Path(__file__).parents[1] / "verify"))  # sound checkpoints and faults are made there

from sound_checkpoints import load_fault, make

__all__ = ["against", "conversations", "load_fault", "make", "quantized_as", "reference_of"]


def conversations() -> list[Conversation]:
    """The sixty of the tiny model."""
    return load_conversations(conversations_path())


def reference_of(sound: Path) -> Reference:
    """What checkpoints with the layers of `sound` are measured against."""
    return measure_reference(contestants(checkpoint_path(), sound, device="cpu"), conversations(), no_progress)


def against(reference: Reference, quantized: Path, *, speech: bool = True) -> Parity:
    """A checkpoint beside a reference that was measured before; without speech in a third of the time."""
    asked = reference if speech else replace(reference, spoken=())
    return compare_with(asked, contestants(checkpoint_path(), quantized, device="cpu"))


def quantized_as(recipe: str, place: Path, asked: Sequence[Conversation]) -> Parity:
    """The tiny model packed by a recipe, beside its original."""
    return compare_checkpoints(checkpoint_path(), make(recipe, place / "quantized"), asked, device="cpu")
