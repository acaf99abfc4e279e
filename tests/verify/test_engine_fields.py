"""Fields that vLLM reads: each one that is missing is named, and a stage that is not there needs none."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from _checkpoint_edit import edit_json
from sound_checkpoints import SoundCheckpoint

from pytest_q3omni.omni.checkpoint import scan
from pytest_q3omni.verify.checks import engine_fields
from pytest_q3omni.verify.subject import Subject

pytestmark = pytest.mark.tiny

PLACES = [
    "thinker_config.vision_config.image_size",
    "thinker_config.vision_config.apply_vit_abs_pos_embed",
    "thinker_config.text_config.tie_word_embeddings",
    "talker_config.spatial_merge_size",
]


@pytest.fixture
def directory(sound: SoundCheckpoint, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound("nvfp4-default"), tmp_path / "checkpoint"))


def drop(config: dict[str, Any], place: str) -> None:
    *parents, field = place.split(".")
    for name in parents:
        config = config[name]
    config.pop(field)


def missing(directory: Path) -> list[str]:
    findings = list(engine_fields.CHECK.run(Subject(scan(directory))))
    assert {finding.severity for finding in findings} <= {"warning"}
    return [finding.where.removeprefix("config.json.") for finding in findings]


def test_the_tiny_model_has_them_all(directory: Path) -> None:
    assert missing(directory) == []


@pytest.mark.parametrize("place", PLACES)
def test_each_field_is_named(place: str, directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: drop(config, place))
    assert missing(directory) == [place]


def test_a_thinker_alone_needs_no_talker_field(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: drop(config, PLACES[3]))
    edit_json(directory, "config.json", lambda config: config.update(enable_audio_output=False))
    assert missing(directory) == []
    edit_json(directory, "config.json", lambda config: [config.pop("talker_config"), config.pop("enable_audio_output")])
    assert missing(directory) == []


def test_a_section_that_is_missing_is_anothers_finding(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config["thinker_config"].update(vision_config=[]))
    assert missing(directory) == []
