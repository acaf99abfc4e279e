"""What is asked of the original and of the checkpoint in the same engine: text, pictures and sound, as raw bytes.

The engine's interpreter has no decoders of ours, so files and waveforms go over as RGB bytes and float32 samples. The
checkpoint's own chat template writes the prompt there.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RATE = 16_000
_COLOURS = {"red": (220, 20, 20), "green": (20, 170, 40), "blue": (20, 40, 220), "black": (0, 0, 0)}
_TEXTS = (
    "What is the capital of France? Answer with one word.",
    "What is 7 times 8? Answer with the number alone.",
    "Repeat this word: lighthouse",
    "Which day comes after Monday? Answer with one word.",
)
_TONES = (220.0, 440.0, 880.0, 0.0)
_SIDE, _SECONDS = 224, 2


@dataclass(frozen=True)
class Picture:
    """RGB bytes, row by row."""

    data: bytes
    width: int
    height: int


@dataclass(frozen=True)
class Question:
    """One user's message. modality: "text", "image" or "audio". sounds: float32 samples (little-endian) at `RATE`."""

    id: str
    modality: str
    text: str
    pictures: tuple[Picture, ...] = ()
    sounds: tuple[bytes, ...] = ()


def general_questions() -> list[Question]:
    """Four of each modality that any trained Qwen3-Omni answers in a word or two; made here, from numbers."""
    questions = [Question(f"text {number}", "text", text) for number, text in enumerate(_TEXTS, 1)]
    for name, colour in _COLOURS.items():
        picture = Picture(bytes(colour) * _SIDE**2, _SIDE, _SIDE)
        text = "Which colour fills this picture? Answer with one word."
        questions.append(Question(f"image {name}", "image", text, (picture,)))
    for pitch in _TONES:
        text = "Is there a tone in this recording, or silence? Answer with one word."
        questions.append(Question(f"audio {pitch:g} Hz", "audio", text, sounds=(_tone(pitch),)))
    return questions


def _tone(pitch: float) -> bytes:
    count = RATE * _SECONDS
    samples = (0.3 * math.sin(2 * math.pi * pitch * number / RATE) for number in range(count))
    return struct.pack(f"<{count}f", *samples)


def bundled_questions() -> list[Question]:
    """What the built-in tiny model was trained to answer: its conversations with one question of one modality.

    Raises:
        MissingDependency: the packages that read pictures and sound are not installed.
    """
    from pytest_q3omni.omni.conversations import load_conversations
    from pytest_q3omni.omni.media import decode_audio, decode_image
    from pytest_q3omni.omni.tiny import conversations_path

    questions = []
    for conversation in load_conversations(conversations_path()):
        roles = [message["role"] for message in conversation.messages]
        others = conversation.modalities - {"text"}
        if roles != ["user", "assistant"] or len(others) > 1 or len(conversation.sources("image")) > 1:
            continue
        text = "".join(part["text"] for part in conversation.messages[0]["content"] if part["type"] == "text")
        images = [decode_image(source) for source in conversation.sources("image")]
        pictures = tuple(Picture(image.tobytes(), image.width, image.height) for image in images)
        sounds = tuple(decode_audio(source, RATE).tobytes() for source in conversation.sources("audio"))
        modality: str = next(iter(others), "text")
        questions.append(Question(conversation.id, modality, text, pictures, sounds))
    return questions


def ask(questions: Sequence[Question], folder: Path) -> list[dict[str, Any]]:
    """The questions as `vllm_inside/generate.py` reads them; media become files in `folder`."""
    asked = []
    for number, question in enumerate(questions):
        images, audios = [], []
        for place, picture in enumerate(question.pictures):
            file = folder / f"{number}-{place}.rgb"
            file.write_bytes(picture.data)
            images.append({"file": str(file), "width": picture.width, "height": picture.height})
        for place, sound in enumerate(question.sounds):
            file = folder / f"{number}-{place}.f32"
            file.write_bytes(sound)
            audios.append({"file": str(file), "rate": RATE})
        asked.append({"text": question.text, "images": images, "audios": audios})
    return asked
