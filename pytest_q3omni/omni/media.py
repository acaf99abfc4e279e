"""Pictures and sound from files or bytes that may come from anyone: two formats each, checked and bounded."""

from __future__ import annotations

import struct
import zlib
from io import SEEK_CUR, SEEK_END, BytesIO
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

MIN_SECONDS = 0.1
"""Shorter sound is no speech, and breaks what comes next: the spectrogram's reflection needs more than n_fft // 2 = 200
samples, and below 9 frames of 10 ms the audio tower's convolutions, which shrink time by 8, are left with a width of 1,
where torch's bfloat16 ones give NaN. 0.1 s are 10 frames.
"""

MAX_AMPLITUDE = 10.0
"""Full scale is 1; float files may exceed it a little, 16-bit integers stored as floats by 4 orders of magnitude."""

_IMAGE_FORMATS = ("PNG", "JPEG")
_UNKNOWN_LENGTH = 0xFFFFFFFF
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
        Unreadable: no such file, another format, damaged data, or fewer samples than the header promises.
        InvalidRequest: shorter than `MIN_SECONDS`, longer than `MAX_SECONDS`, NaN or Inf or more than `MAX_AMPLITUDE`.
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
            if len(samples) < min(sound.frames, limit + 1):
                raise soundfile.SoundFileError(f"{sound.frames} samples promised, {len(samples)} there")
        _check_wav_length(source)
    except (OSError, ValueError, TypeError, soundfile.SoundFileError) as error:
        found = f"cannot be decoded ({type(error).__name__}: {error})"
        raise Unreadable(found, where=place, expected="a whole WAV or FLAC file", fix="save it again as WAV") from error
    if len(samples) > limit:
        found = f"more than {limit} samples at {found_rate} Hz"
        raise InvalidRequest(found, where=place, expected=f"at most {MAX_SECONDS} s", fix="cut it")
    _check_samples(samples, found_rate, place)
    mono = samples.mean(axis=1, dtype=np.float32)
    resampled = mono if found_rate == rate else soxr.resample(mono, found_rate, rate)
    return np.ascontiguousarray(resampled, dtype=np.float32)


def _check_samples(samples: NDArray[np.float32], rate: int, place: str) -> None:
    """Return if the samples (frames, channels) are long enough, finite, and not far beyond full scale."""
    import numpy as np

    if len(samples) < MIN_SECONDS * rate:
        found = f"{len(samples)} samples at {rate} Hz ({len(samples) / rate:.3g} s)" if len(samples) else "no samples"
        fix = "remove it, or use a longer recording"
        raise InvalidRequest(found, where=place, expected=f"at least {MIN_SECONDS} s", fix=fix)
    if not np.isfinite(samples).all():
        raise InvalidRequest("NaN or Inf among the samples", where=place, expected="numbers", fix="record it again")
    loudest = float(max(samples.max(), -samples.min()))
    if loudest > MAX_AMPLITUDE:
        fix = "scale it to -1 ... 1 (integers stored as floats: divide 16-bit ones by 32768)"
        expected = f"at most {MAX_AMPLITUDE:g}, full scale is 1"
        raise InvalidRequest(f"an amplitude of {loudest:.3g}", where=place, expected=expected, fix=fix)


def _check_wav_length(source: Source) -> None:
    """Return if the file is as long as its RIFF data chunk says; libsndfile cuts what is missing without a word.

    A writer that cannot seek leaves the length at 2^32 - 1 (ffmpeg into a pipe): then any length is right.

    Raises:
        ValueError: there are fewer bytes.
    """
    with BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as stream:
        size = stream.seek(0, SEEK_END)
        stream.seek(0)
        order = {b"RIFF": "<", b"RIFX": ">"}.get(stream.read(12)[:4])
        while order and len(head := stream.read(8)) == 8:
            (length,) = struct.unpack(f"{order}I", head[4:])
            there = size - stream.tell()
            if head[:4] == b"data":
                if there < length != _UNKNOWN_LENGTH:
                    raise ValueError(f"cut off: {length} bytes of sound promised, {there} there")
                return
            stream.seek(length + length % 2, SEEK_CUR)
