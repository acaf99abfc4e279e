"""Towers: audio and vision of a thinker that was exported alone, under names without a prefix."""

from __future__ import annotations

from pytest_q3omni.omni.config import THINKER_TYPE, Section
from pytest_q3omni.omni.stages._protocol import Part, Shapes, Stage
from pytest_q3omni.omni.stages.thinker import AUDIO_TOWER, VISUAL, audio_tower, visual


def _tensors(config: Section) -> Shapes:
    yield from audio_tower("audio_tower", config.section("audio_config"))
    yield from visual("visual", config.section("vision_config"))


STAGE = Stage(
    name="towers",
    prefix="",
    heads=("audio_tower.", "visual."),
    foreign=True,
    run="model(**inputs)",
    parts=(AUDIO_TOWER, VISUAL, Part("norms and biases", r".+", "vectors")),
    tensors=_tensors,
    present=lambda config: config.values.get("model_type") == THINKER_TYPE,
)
