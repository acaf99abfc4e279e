"""Pictures and sound from files or bytes that may come from anyone: two formats each, checked and bounded."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_q3omni.errors import InvalidRequest, Unreadable
from pytest_q3omni.omni.extras import missing_extra

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Source = str | Path | bytes
"""A path, or the bytes of a file."""

MAX_PIXELS = 1 << 26
"""8192 x 8192. A decoder allocates what the header claims: a picture of 1 KB may claim to be larger than memory."""

MAX_SECONDS = 3600
MAX_FRAMES = 1 << 28
"""Bounds of a recording by duration and by samples per channel: 3600 s at 48 kHz are 1.7e8."""

_IMAGE_FORMATS = ("PNG", "JPEG")
_IMAGE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Pillow's modes with 8 bits a channel. Pillow clips 16-bit ones to white when it converts them."""

_DAMAGED = (
    OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, ArithmeticError, struct.error, zlib.error,
)  # fmt: skip
"""What Pillow's PNG, JPEG and EXIF readers raise on damaged files: not OSError alone."""


def _place(source: Source, where: str) -> str:
    return where or (f"{len(source)} bytes" if isinstance(source, bytes) else str(source))


def _stream(source: Source) -> Any:
    return BytesIO(source) if isinstance(source, bytes) else str(source)


def decode_image(source: Source, *, where: str = "") -> Any:
    """A PNG or JPEG as a Pillow image in mode RGB, turned upright (EXIF), transparency on white.

    Raises:
        Unreadable: no such file, another format, or damaged data.
        InvalidRequest: more than `MAX_PIXELS` pixels, or more than 8 bits a channel.
        MissingDependency: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise missing_extra("pillow>=11.0", "reading pictures", error) from error

    place = _place(source, where)
    fix = "save it again as PNG or JPEG with 8 bits a channel"
    try:
        with Image.open(_stream(source), formats=_IMAGE_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                found = f"{image.width} x {image.height} pixels"
                raise InvalidRequest(found, where=place, expected=f"at most {MAX_PIXELS} pixels", fix="make it smaller")
            if image.mode not in _IMAGE_MODES:
                raise InvalidRequest(f"mode {image.mode}", where=place, expected="8 bits a channel", fix=fix)
            image.verify()  # checksums and end of a PNG, which decoding does not look at; the image is used up then
        with Image.open(_stream(source), formats=_IMAGE_FORMATS) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                layer = upright.convert("RGBA")
                return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
            return upright.convert("RGB")
    except InvalidRequest:
        raise
    except Image.DecompressionBombError as error:
        expected = f"at most {MAX_PIXELS} pixels"
        raise InvalidRequest("too many pixels", where=place, expected=expected, fix="make it smaller") from error
    except _DAMAGED as error:
        found = f"cannot be decoded ({type(error).__name__}: {error})"
        raise Unreadable(found, where=place, expected="a whole PNG or JPEG file", fix=fix) from error


def decode_audio(source: Source, rate: int, *, where: str = "") -> NDArray[np.float32]:
    """A WAV or FLAC as float32 mono samples (frames,) at `rate` Hz; channels are averaged.

    Raises:
        Unreadable: no such file, another format, or damaged data.
        InvalidRequest: no samples, more than `MAX_SECONDS`, or NaN or Inf among them.
        MissingDependency: soundfile or soxr is not installed.
    """
    import numpy as np

    try:
        import soundfile
        import soxr
    except (ImportError, OSError) as error:  # OSError: soundfile without its libsndfile
        raise missing_extra("soundfile>=0.13 and soxr>=0.5", "reading sound", error) from error

    place = _place(source, where)
    try:
        with soundfile.SoundFile(_stream(source)) as sound:
            if sound.format not in ("WAV", "WAVEX", "FLAC"):
                raise soundfile.SoundFileError(f"this is {sound.format}")
            limit = min(MAX_SECONDS * sound.samplerate, MAX_FRAMES)
            samples = sound.read(limit + 1, dtype="float32", always_2d=True)
            found_rate = sound.samplerate
    except (OSError, ValueError, TypeError, soundfile.SoundFileError) as error:
        found = f"cannot be decoded ({type(error).__name__}: {error})"
        raise Unreadable(found, where=place, expected="a whole WAV or FLAC file", fix="save it again as WAV") from error
    if not len(samples):
        raise InvalidRequest("no samples", where=place, expected="at least one", fix="remove it or record it again")
    if len(samples) > limit:
        found = f"more than {limit} samples at {found_rate} Hz"
        raise InvalidRequest(found, where=place, expected=f"at most {MAX_SECONDS} s", fix="cut it")
    if not np.isfinite(samples).all():
        raise InvalidRequest("NaN or Inf among the samples", where=place, expected="numbers", fix="record it again")
    mono = samples.mean(axis=1, dtype=np.float32)
    resampled = mono if found_rate == rate else soxr.resample(mono, found_rate, rate)
    if not len(resampled):
        found = f"{len(mono)} samples at {found_rate} Hz, none left at {rate} Hz"
        raise InvalidRequest(found, where=place, expected="at least one", fix="remove it or record it again")
    return np.ascontiguousarray(resampled, dtype=np.float32)
