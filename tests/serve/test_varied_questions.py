"""Prompts for comparing arithmetic: always the same, and no two parts of them alike."""

import hashlib

import pytest

np = pytest.importorskip("numpy")

from pytest_q3omni.engines.vllm_questions import RATE  # noqa: E402
from pytest_q3omni.serve.asking import in_whole_frames  # noqa: E402
from pytest_q3omni.serve.varied_questions import varied_questions  # noqa: E402

pytestmark = pytest.mark.tiny


@pytest.fixture(scope="module")
def questions():
    return varied_questions()


def test_there_are_as_many_of_each_modality_and_no_two_are_alike(questions):
    kinds = [question.modality for question in questions]
    assert {kind: kinds.count(kind) for kind in kinds} == {"text": 6, "image": 6, "audio": 6}
    contents = [(q.text, *(p.data for p in q.pictures), *q.sounds) for q in questions]
    assert len(set(contents)) == len({question.id for question in questions}) == len(questions)


def test_no_two_patches_of_a_picture_are_alike(questions):
    for question in questions:
        for picture in question.pictures:
            pixels = np.frombuffer(picture.data, np.uint8).reshape(picture.height, picture.width, 3)
            patches = pixels.reshape(14, 16, 14, 16, 3).swapaxes(1, 2).reshape(196, -1)
            assert len(np.unique(patches, axis=0)) == 196
            assert pixels.std() > 40
            assert pixels.max() < 256


def test_sounds_are_two_seconds_within_full_scale(questions):
    for question in questions:
        assert in_whole_frames(question) == question, "whole frames already"
        for sound in question.sounds:
            samples = np.frombuffer(sound, "<f4")
            assert samples.size == 2 * RATE
            assert 0.3 < np.abs(samples).max() < 1


def test_pictures_are_the_same_on_every_machine(questions):
    data = b"".join(picture.data for question in questions for picture in question.pictures)
    assert hashlib.sha256(data).hexdigest()[:16] == "eeedfc89f9beca64"
