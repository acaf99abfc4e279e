"""Write the tiny model's sixty conversations and its calibration record, both package data. From `tests/tiny`:

    python -m recipe.make_conversations            # conversations
    python -m recipe.make_conversations --record   # and the calibration record for `nvfp4-default`

Twenty conversations ask in words, twenty show a picture, twenty play a tone. One in five has a second turn about
something else; every fourth leaves the answer open, the others end with the right one. Sounds are PCM16, half of them
as FLAC; one picture and one tone are data URIs in OpenAI's form.
"""

from __future__ import annotations

import argparse
import base64
import json
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from pytest_q3omni.omni.tiny import checkpoint_path, conversations_path, record_path
from recipe.media import SAMPLING_RATE
from recipe.task import Sample, draw_sample

KINDS = ("text", "image", "audio")
EACH = 20
SEED = 60


def encode(sample: Sample, flac: bool) -> tuple[str, bytes]:
    """File name ending and content of a sample's picture or sound."""
    stream = BytesIO()
    if sample.image is not None:
        Image.fromarray(sample.image).save(stream, "PNG", optimize=True)
        return "png", stream.getvalue()
    kind = "FLAC" if flac else "WAV"
    soundfile.write(stream, sample.audio, SAMPLING_RATE, subtype="PCM_16", format=kind)
    return kind.lower(), stream.getvalue()


def media_part(sample: Sample, name: str, number: int, folder: Path) -> dict[str, Any]:
    """The part that shows or plays the sample; writes its file, or puts the bytes into the part."""
    ending, data = encode(sample, flac=number % 2 == 1)
    if number == 0:
        text = base64.b64encode(data).decode()
        if sample.image is not None:
            return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{text}"}}
        return {"type": "input_audio", "input_audio": {"data": text, "format": ending}}
    (folder / f"{name}.{ending}").write_bytes(data)
    kind = "image" if sample.image is not None else "audio"
    return {"type": kind, kind: f"{name}.{ending}"}


def turn(sample: Sample, name: str, number: int, folder: Path) -> dict[str, Any]:
    """The user's message."""
    if sample.kind == "text":
        return {"role": "user", "content": sample.question}
    parts = [{"type": "text", "text": sample.question}]
    parts.insert(0 if sample.media_first else 1, media_part(sample, name, number, folder))
    return {"role": "user", "content": parts}


def conversation(kind: str, number: int, rng: np.random.Generator, folder: Path) -> dict[str, Any]:
    """One line of the file."""
    samples = [draw_sample(kind, rng)]
    if number % 5 == 4:
        samples.append(draw_sample(KINDS[(KINDS.index(kind) + 1 + number // 5 % 2) % 3], rng))
    messages: list[dict[str, Any]] = []
    if samples[0].system:
        messages.append({"role": "system", "content": samples[0].system})
    for place, sample in enumerate(samples):
        name = f"{kind}-{number:02d}" + (f"-{sample.kind}" if place else "")
        messages.append(turn(sample, name, number, folder))
        messages.append({"role": "assistant", "content": sample.answer})
    return {"messages": messages[:-1] if number % 4 == 3 else messages}


def write_conversations(file: Path) -> None:
    """Write the JSON-lines file, and pictures and sounds beside it; replaces the folder."""
    shutil.rmtree(file.parent, ignore_errors=True)
    file.parent.mkdir(parents=True)
    rng = np.random.default_rng(SEED)
    lines = [conversation(kind, number, rng, file.parent) for number in range(EACH) for kind in KINDS]
    file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def write_record(conversations: Path, checkpoint: Path, record: Path) -> None:
    """Calibrate the checkpoint on the conversations; replaces the record."""
    import torch

    from pytest_q3omni.api import calibrate

    torch.set_num_threads(1)
    shutil.rmtree(record, ignore_errors=True)
    calibrate(checkpoint, record, recipe="nvfp4-default", conversations=conversations)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="calibrate on them, too")
    arguments = parser.parse_args()
    write_conversations(conversations_path())
    if arguments.record:
        write_record(conversations_path(), checkpoint_path(), record_path())


if __name__ == "__main__":
    main()
