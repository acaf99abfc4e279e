"""Pictures and sound: what is accepted, what is converted, what is refused. Damaged files give typed errors only."""

import random
import sys
from io import BytesIO

import numpy as np
import pytest

from pytest_q3omni.errors import InvalidRequest, MissingDependency, Q3OmniError, Unreadable
from pytest_q3omni.omni import media
from pytest_q3omni.omni.media import decode_audio, decode_image

pytestmark = pytest.mark.tiny

_REASON = "needs the quantize extra: pip install pytest-q3omni[quantize]"
Image = pytest.importorskip("PIL.Image", reason=_REASON)
soundfile = pytest.importorskip("soundfile", reason=_REASON)
pytest.importorskip("soxr", reason=_REASON)

RATE = 16_000


def picture(mode="RGB", size=(6, 4), form="PNG", **options):
    stream = BytesIO()
    values = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 4), np.uint8)
    Image.fromarray(values, "RGBA").convert(mode).save(stream, form, **options)
    return stream.getvalue()


def sound(samples, rate=RATE, form="WAV", subtype="PCM_16"):
    stream = BytesIO()
    soundfile.write(stream, samples, rate, format=form, subtype=subtype)
    return stream.getvalue()


def sine(seconds=0.5, rate=RATE, pitch=440.0):
    return (0.5 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_png_of_every_8_bit_mode_becomes_rgb(mode):
    image = decode_image(picture(mode))
    assert (image.mode, image.size) == ("RGB", (6, 4))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_becomes_rgb(mode):
    image = decode_image(picture(mode, form="JPEG"))
    assert (image.mode, image.size) == ("RGB", (6, 4))


def test_a_path_and_bytes_give_the_same_pixels(tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    values = np.random.default_rng(1).integers(0, 256, (4, 6, 4), np.uint8)[..., :3]
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), picture()):
        assert np.array_equal(np.asarray(decode_image(source)), values)


def test_transparency_becomes_white():
    stream = BytesIO()
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(stream, "PNG")
    assert np.array_equal(np.asarray(decode_image(stream.getvalue())), np.full((2, 2, 3), 255))


def test_a_picture_on_its_side_is_turned_upright():
    stream = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    Image.new("RGB", (6, 4)).save(stream, "JPEG", exif=exif)
    assert decode_image(stream.getvalue()).size == (4, 6)


@pytest.mark.parametrize("form", ["GIF", "BMP", "WEBP", "TIFF"])
def test_other_picture_formats_are_refused(form):
    with pytest.raises(Unreadable, match="PNG or JPEG"):
        decode_image(picture(form=form))


def test_sixteen_bits_a_channel_are_refused():
    stream = BytesIO()
    Image.fromarray(np.full((2, 2), 40_000, np.uint16)).save(stream, "PNG")
    with pytest.raises(InvalidRequest, match="8 bits a channel"):
        decode_image(stream.getvalue())


@pytest.mark.parametrize("data", [b"", b"no picture", picture()[:40], picture()[:-20], picture(form="JPEG")[:200]])
def test_a_damaged_picture_is_unreadable(tmp_path, data):
    file = tmp_path / "cat.png"
    file.write_bytes(data)
    with pytest.raises(Unreadable, match=r"cat\.png: cannot be decoded") as caught:
        decode_image(file)
    assert caught.value.fix


def test_a_missing_picture_is_unreadable(tmp_path):
    with pytest.raises(Unreadable, match=r"none\.png"):
        decode_image(tmp_path / "none.png")


def test_the_place_is_named_as_told():
    with pytest.raises(Unreadable, match=r"^talk\.jsonl:3: "):
        decode_image(b"x", where="talk.jsonl:3")


@pytest.mark.parametrize("size", [(9000, 9000), (20_000, 20_000)])
def test_pixels_are_bounded_before_they_are_decoded(size):
    """A header may claim any size: that of a 1 x 1 picture is overwritten."""
    import struct
    import zlib

    data = bytearray(picture(size=(1, 1)))
    data[16:24] = struct.pack(">II", *size)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(InvalidRequest, match="pixels") as caught:
        decode_image(bytes(data))
    assert str(media.MAX_PIXELS) in str(caught.value)


@pytest.mark.parametrize("form", ["WAV", "FLAC", "WAVEX"])
def test_sound_at_the_right_rate_is_kept(form):
    samples = decode_audio(sound(sine(), form=form), RATE)
    assert samples.dtype == np.float32
    assert samples.shape == (8000,)
    assert np.abs(samples - sine()).max() < 1e-4


def test_float_sound_is_kept_exactly():
    assert np.array_equal(decode_audio(sound(sine(), subtype="FLOAT"), RATE), sine())


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_sound_is_resampled_to_the_models_rate(rate):
    samples = decode_audio(sound(sine(rate=rate), rate), RATE)
    assert abs(len(samples) - 8000) <= 1
    spectrum = np.abs(np.fft.rfft(samples))
    assert abs(np.argmax(spectrum) * RATE / len(samples) - 440) < 3


def test_channels_are_averaged():
    both = np.stack([sine(), -sine()], axis=1)
    assert np.abs(decode_audio(sound(both), RATE)).max() < 1e-4


def test_sound_without_samples_is_refused(tmp_path):
    file = tmp_path / "silence.wav"
    file.write_bytes(sound(np.zeros(0, np.float32)))
    with pytest.raises(InvalidRequest, match=r"silence\.wav: no samples"):
        decode_audio(file, RATE)


@pytest.mark.parametrize(("count", "rate"), [(1, RATE), (200, RATE), (401, RATE), (1599, RATE), (4409, 44_100)])
def test_sound_that_is_too_short_is_refused(tmp_path, count, rate):
    file = tmp_path / "click.wav"
    file.write_bytes(sound(sine(1.0, rate)[:count], rate))
    shown = rf"click\.wav: {count} samples at {rate} Hz \({count / rate:.3g} s\); expected at least 0\.1 s"
    with pytest.raises(InvalidRequest, match=shown):
        decode_audio(file, RATE)


@pytest.mark.parametrize("rate", [8_000, RATE, 44_100])
def test_the_shortest_sound_passes(rate):
    assert len(decode_audio(sound(sine(0.1, rate), rate), RATE)) == 1600


@pytest.mark.parametrize("peak", [10.5, -10.5, 20_000.0])
def test_sound_far_beyond_full_scale_is_refused(peak):
    samples = sine()
    samples[77] = peak
    with pytest.raises(InvalidRequest, match=r"amplitude of .*; expected at most 10, full scale is 1.*32768"):
        decode_audio(sound(samples, subtype="FLOAT"), RATE)


def test_sound_a_little_beyond_full_scale_passes():
    samples = sine() * 19.9
    assert np.array_equal(decode_audio(sound(samples, subtype="FLOAT"), RATE), samples)


@pytest.mark.parametrize("as_file", [True, False])
@pytest.mark.parametrize("cut", [1, 100, 3001])
@pytest.mark.parametrize(("form", "subtype"), [
    ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "ULAW"), ("WAV", "MS_ADPCM"), ("WAVEX", "PCM_24"), ("FLAC", "PCM_16"),
])  # fmt: skip
def test_sound_that_is_cut_off_is_unreadable(tmp_path, form, subtype, cut, as_file):
    data = sound(sine(), form=form, subtype=subtype)[:-cut]
    file = tmp_path / "meow.wav"
    file.write_bytes(data)
    with pytest.raises(Unreadable, match=r"meow\.wav: cannot be decoded"):
        decode_audio(file if as_file else data, RATE, where="" if as_file else "meow.wav")


def test_a_cut_off_big_endian_wav_is_unreadable():
    stream = BytesIO()
    soundfile.write(stream, sine(), RATE, format="WAV", subtype="PCM_16", endian="BIG")
    data = stream.getvalue()
    assert data.startswith(b"RIFX")
    assert len(decode_audio(data, RATE)) == 8000
    with pytest.raises(Unreadable, match="cut off: 16000 bytes of sound promised, 15900 there"):
        decode_audio(data[:-100], RATE)


def test_chunks_around_the_sound_are_no_fault():
    data = sound(sine())
    chunk = b"LIST" + (5).to_bytes(4, "little") + b"INFOx" + b"\0"
    for changed in (data + chunk, data[:36] + chunk + data[36:], data + chunk[:6]):
        assert len(decode_audio(changed, RATE)) == 8000


def test_a_wav_written_into_a_pipe_has_no_length():
    data = bytearray(sound(sine()))
    data[40:44] = b"\xff" * 4
    assert len(decode_audio(bytes(data), RATE)) == 8000


def test_a_flac_that_ends_before_the_samples_it_promises_is_unreadable():
    data = bytearray(sound(sine(), form="FLAC"))
    data[22:26] = (16_000).to_bytes(4, "big")
    with pytest.raises(Unreadable, match="cannot be decoded"):
        decode_audio(bytes(data), RATE)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_sound_that_is_no_number_is_refused(value):
    samples = sine()
    samples[77] = value
    with pytest.raises(InvalidRequest, match="NaN or Inf"):
        decode_audio(sound(samples, subtype="FLOAT"), RATE)


def test_sound_is_bounded(monkeypatch):
    monkeypatch.setattr(media, "MAX_SECONDS", 1)
    assert len(decode_audio(sound(sine(1.0)), RATE)) == RATE
    with pytest.raises(InvalidRequest, match="more than 16000 samples"):
        decode_audio(sound(sine(1.1)), RATE)


@pytest.mark.parametrize("form", ["AIFF", "OGG", "CAF"])
def test_other_sound_formats_are_refused(form):
    subtype = "VORBIS" if form == "OGG" else "PCM_16"
    with pytest.raises(Unreadable, match=f"this is {form}"):
        decode_audio(sound(sine(), form=form, subtype=subtype), RATE)


@pytest.mark.parametrize("data", [b"", b"no sound", sound(sine())[:20], sound(sine(), form="FLAC")[:60]])
def test_damaged_sound_is_a_typed_error(tmp_path, data):
    file = tmp_path / "meow.wav"
    file.write_bytes(data)
    with pytest.raises((Unreadable, InvalidRequest), match=r"meow\.wav"):
        decode_audio(file, RATE)


def damaged(data, draw):
    """The file cut, with bytes changed, or with bytes repeated."""
    changed = bytearray(data)
    for _ in range(draw.randrange(1, 8)):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    start = draw.randrange(len(changed))
    return bytes(draw.choice([changed, changed[:start], changed[:start] + changed[start // 2 :]]))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WAV", "FLAC"])
def test_damaged_files_give_typed_errors_only(form):
    draw = random.Random(form)
    whole = picture(size=(16, 16), form=form) if form in ("PNG", "JPEG") else sound(sine(0.15), form=form)
    decode = decode_image if form in ("PNG", "JPEG") else lambda data: decode_audio(data, RATE)
    refused = []
    for _ in range(400):
        try:
            decode(damaged(whole, draw))
        except Q3OmniError as error:
            refused.append(error)
    assert len(refused) > 20
    assert all(error.where and error.expected for error in refused)


@pytest.mark.parametrize(("package", "call"), [
    ("PIL", lambda: decode_image(b"x")),
    ("soundfile", lambda: decode_audio(b"x", RATE)),
    ("soxr", lambda: decode_audio(b"x", RATE)),
])  # fmt: skip
def test_a_missing_reader_names_the_extra(monkeypatch, package, call):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=r"pytest-q3omni\[quantize\]"):
        call()
