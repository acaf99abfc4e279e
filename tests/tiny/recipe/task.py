"""What the tiny model is taught: four small worlds with exact answers, in plain numpy.

| world | prompt | answer |
|---|---|---|
| text | a sentence that names a two-letter key | the two letters that `FACTS` gives for the key |
| audio | a tone of 0.3 to 1.2 s (16 kHz, noise, any phase) | the letter that `TONES` gives for its pitch |
| image | 64 x 64 pixels or more, left half one colour, right half another | one letter per half, from `COLOURS` |
| speech | any answer | one frame of codes per text token, then a fade-out: `speech_codes` |

*Held out* means: not seen in training. For text that is the wording (the facts themselves must be known); for audio
and image it is the wording and every noise, phase, pitch error, loudness, length, border and colour error; for speech
it is the question before it and the letters spoken, drawn anew. `Prompts.held_out` lists the wordings never trained on.
"""

from __future__ import annotations

import itertools
import random
import string
import zlib
from dataclasses import dataclass, field, replace

import numpy as np

from recipe.media import COLOURS, TONES, picture, tone

LETTERS = string.ascii_uppercase
KINDS = ("text", "audio", "image")

CODE_GROUPS = 4
"""Codebooks per frame of speech."""

CODES = 64
"""Entries per codebook."""


def build_facts(count: int = 96, seed: int = 2026) -> dict[str, str]:
    """Key -> value, both two capital letters; the same in every Python version (only `random.Random.random`)."""
    draw = random.Random(seed)
    pairs = ["".join(pair) for pair in itertools.product(LETTERS, repeat=2)]
    order = sorted(pairs, key=lambda _pair: draw.random())
    return {key: pairs[int(draw.random() * len(pairs))] for key in order[:count]}


FACTS = build_facts()

_OPENERS = ("", "Please ", "Now ", "Quickly ", "Well, ", "Hello! ")
_VERBS = ("tell me", "give me", "say", "show me", "name", "what is")
_ENDS = (".", "?", "!", "")
_OBJECTS = {
    "text": ("the value of", "the code of", "the word for", "the answer to", "the letters for"),
    "audio": ("the tone", "the pitch", "the note", "the sound", "this sound"),
    "image": ("the colours", "both colours", "the picture", "the two halves", "this image"),
}
_SHORT = {
    "text": ("{key}", "{key}?", "What is {key}?"),
    "audio": ("Which tone is this?", "What do you hear?"),
    "image": ("Which colours are these?", "What do you see?"),
}
SYSTEMS = ("You are a helpful assistant.", "Answer with capital letters only.", "You are a tiny omni model.")


def _hash(text: str) -> int:
    return zlib.crc32(text.encode())


@dataclass(frozen=True)
class Prompts:
    """The wordings for one kind of question: every opener x verb x object x end, and a few short ones.

    `held_out` gets one long wording in five, picked by its hash. Training sees each of its words, in other wordings.
    """

    kind: str
    known: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, kind: str) -> Prompts:
        prompts = cls(kind, known=[*_SHORT[kind]] * 4)
        for opener, verb, noun, end in itertools.product(_OPENERS, _VERBS, _OBJECTS[kind], _ENDS):
            sentence = f"{opener}{verb} {noun}" + (" {key}" if kind == "text" else "") + end
            sentence = sentence[0].upper() + sentence[1:]
            (prompts.held_out if _hash(sentence) % 5 == 0 else prompts.known).append(sentence)
        return prompts


PROMPTS = {kind: Prompts.of(kind) for kind in _OBJECTS}


@dataclass(frozen=True)
class Sample:
    """One question with its answer.

    `audio` is float32 `(samples,)` at `media.SAMPLING_RATE`, `image` is uint8 `(height, width, 3)`; at most one is set.
    `media_first` puts it before the words, `system` is an optional system message, `earlier` an answered question
    before this one, of any kind.
    """

    kind: str
    question: str
    answer: str
    audio: np.ndarray | None = None
    image: np.ndarray | None = None
    media_first: bool = True
    system: str | None = None
    earlier: Sample | None = None

    def messages(self) -> list[dict]:
        """The conversation without the last answer, as `processor.apply_chat_template` takes it."""
        system = [_message("system", self.system)] if self.system else []
        before = [*self.earlier.messages(), _message("assistant", self.earlier.answer)] if self.earlier else []
        message = _message("user", self.question)
        for kind, data in (("audio", self.audio), ("image", self.image)):
            if data is not None:
                message["content"].insert(0 if self.media_first else 1, {"type": kind, kind: data})
        return [*system, *before, message]

    def media(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """All sounds and all pictures of the conversation, in their order."""
        sounds, pictures = self.earlier.media() if self.earlier else ([], [])
        sounds = [*sounds, self.audio] if self.audio is not None else sounds
        return sounds, [*pictures, self.image] if self.image is not None else pictures


def _message(role: str, text: str) -> dict:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _draw_wording(kind: str, rng: np.random.Generator, held_out: bool) -> str:
    wordings = PROMPTS[kind].held_out if held_out else PROMPTS[kind].known
    return wordings[rng.integers(len(wordings))]


def _draw_question(kind: str, rng: np.random.Generator, held_out: bool) -> Sample:
    """A sample without a system message or an earlier turn."""
    question, media_first = _draw_wording(kind, rng, held_out), bool(rng.random() < 0.7)
    if kind == "text":
        key = list(FACTS)[rng.integers(len(FACTS))]
        return Sample(kind, question.format(key=key), FACTS[key])
    if kind == "audio":
        letter = list(TONES)[rng.integers(len(TONES))]
        return Sample(kind, question, letter, audio=tone(letter, rng), media_first=media_first)
    left, right = (list(COLOURS)[index] for index in rng.integers(len(COLOURS), size=2))
    image = picture(left, right, rng, size=int(rng.choice([64, 96, 128], p=[0.8, 0.1, 0.1])))
    return Sample(kind, question, left + right, image=image, media_first=media_first)


def draw_sample(kind: str, rng: np.random.Generator, held_out: bool = False) -> Sample:
    """One random sample of a kind (`text`, `audio`, `image`), with a wording trained on, or a held-out one.

    30 % come with a system message, 20 % with an earlier turn of any kind. 20 % of the images are larger than 64 x 64.
    """
    system = SYSTEMS[rng.integers(len(SYSTEMS))] if rng.random() < 0.3 else None
    earlier = _draw_question(KINDS[rng.integers(len(KINDS))], rng, held_out) if rng.random() < 0.2 else None
    return replace(_draw_question(kind, rng, held_out), system=system, earlier=earlier)


VOICE = {"text": 0, "audio": 21, "image": 42}
"""Added to the first code of a text token: the voice depends on the kind of the last question."""


def speech_codes(token_ids: list[int], kind: str) -> np.ndarray:
    """The frames that speak an answer: int64 `(frames, CODE_GROUPS)`, each value in 0..CODES-1.

    One frame per text token, affine in its id; then the first code is halved from frame to frame until it is zero
    (a fade-out of at most six frames). The residual groups are affine in the first one.
    """
    first = [(5 * token + 3 + VOICE[kind]) % CODES for token in token_ids]
    while first[-1] > 0:
        first.append(first[-1] // 2)
    column = np.array(first, dtype=np.int64)
    groups = [column, *((multiplier * column + 7 * group) % CODES for group, multiplier in enumerate((3, 11, 21), 1))]
    return np.stack(groups, axis=1)
