"""A PNG with a palette, from the standard library: the light install draws spectrograms, too."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from collections.abc import Sequence

_ANCHORS = ((11, 14, 38), (54, 35, 113), (146, 45, 112), (222, 89, 66), (248, 171, 72), (255, 246, 200))
"""From dark to light at an even pace, so that the picture keeps its meaning in greyscale."""


def data_uri(rows: Sequence[bytes]) -> str:
    """Rows of one byte for each pixel, 0 dark to 255 light, as a `data:` URI. All rows have one length, at least 1."""
    width, height = len(rows[0]), len(rows)
    header = struct.pack(">2I5B", width, height, 8, 3, 0, 0, 0)  # 8 bits, palette
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows), 9)  # 0: no filter
    chunks = ((b"IHDR", header), (b"PLTE", palette()), (b"IDAT", pixels), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)
    return f"data:image/png;base64,{b64encode(data).decode()}"


def palette() -> bytes:
    """256 colours, red green blue."""
    colours = bytearray()
    for index in range(256):
        part, share = divmod(index * (len(_ANCHORS) - 1) / 255, 1)
        low, high = _ANCHORS[int(part)], _ANCHORS[min(int(part) + 1, len(_ANCHORS) - 1)]
        colours += bytes(round(begin + share * (end - begin)) for begin, end in zip(low, high, strict=True))
    return bytes(colours)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
