"""Conversations from a JSON-lines file: one conversation a line, media as paths beside the file or as data URIs.

    {"messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "What?"}]},
                  {"role": "assistant", "content": "A cat."}]}

`content` is a string or a list of parts: `text`, `image` and `audio` as Qwen and transformers write them, `image_url`
and `input_audio` as OpenAI's API does. A path may begin with `~`. Nothing is ever fetched: addresses (`https://...`,
`file:///...`) are refused, and so is a plain prompt, which has no roles. The file is UTF-8.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pytest_q3omni.errors import InvalidRequest, Unreadable
from pytest_q3omni.omni.chatml import check_chatml, check_chatml_messages
from pytest_q3omni.omni.media import Source, decode_audio, decode_image

__all__ = ["Conversation", "decode_audio", "decode_image", "digest", "load_conversations", "parse_conversation"]

Messages = Sequence[Mapping[str, Any]]
"""`[{"role": ..., "content": ...}]`, as in a line of a conversations file."""

Modality = Literal["text", "image", "audio"]
MAX_LINE_BYTES = 1 << 26
"""64 MiB: a line with an hour of sound as base64 is longer, and belongs into a file."""

_DATA_URI = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?P<options>(;[^;,]*)*),(?P<data>.*)", re.DOTALL)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://|file:/|data:", re.IGNORECASE)  # `take:1.png` and `C:\` are paths
_ENCODED = re.compile(r"[A-Za-z0-9+/\s]{64,}={0,2}")
_LONG_PATH = 255
_AUDIO_FORMATS = ("wav", "flac")
_PARTS = ("text", "image", "audio", "image_url", "input_audio")
_PROMPTS = ("prompt", "text")


@dataclass(frozen=True)
class Conversation:
    """One conversation.

    id: file and line, `calibration.jsonl:3`.
    messages: {"role", "content": [part, ...]} with parts {"type": "text", "text": str}, {"type": "image", "image":
        SOURCE} and {"type": "audio", "audio": SOURCE}. SOURCE is an absolute path (str) or the bytes of a file.
    """

    id: str
    messages: tuple[Mapping[str, Any], ...]

    @property
    def parts(self) -> list[Mapping[str, Any]]:
        """All parts of all messages, in order."""
        return [part for message in self.messages for part in message["content"]]

    @property
    def modalities(self) -> frozenset[Modality]:
        """What it contains: text, image, audio."""
        return frozenset(part["type"] for part in self.parts)

    def sources(self, modality: Literal["image", "audio"]) -> list[Source]:
        """The pictures or recordings, in the order of their placeholders."""
        return [part[modality] for part in self.parts if part["type"] == modality]

    @property
    def answered(self) -> bool:
        """Whether the assistant has the last word."""
        return bool(self.messages[-1]["role"] == "assistant")


def load_conversations(path: Path) -> list[Conversation]:
    """Read a JSON-lines file; empty lines are skipped. Media files are looked for, not read.

    Raises:
        Unreadable: the file or a media file is missing, or a line is not JSON; names file and line.
        InvalidRequest: a line is not a conversation (NotChatML: wrong roles), or there is none; names file and line.
    """
    found = []
    for number, line in _lines(path):
        try:
            value = json.loads(_text(line, path, number))
        except (ValueError, RecursionError) as error:
            found_text = f"not valid JSON ({error})"
            raise Unreadable(found_text, where=f"{path}:{number}", expected="one JSON object a line") from error
        found.append(parse_conversation(value, f"{path.name}:{number}", path.parent, where=f"{path}:{number}"))
    if not found:
        raise InvalidRequest("no conversation", where=str(path), expected="one JSON object a line", fix=_EXAMPLE)
    return found


_EXAMPLE = 'write lines such as {"messages": [{"role": "user", "content": "Hello"}]}'


def _text(line: bytes, path: Path, number: int) -> str:
    try:
        if b"\0" not in line:  # UTF-16 without its mark is UTF-8 full of zeros
            return line.decode("utf-8")
        kind = "UTF-16"
    except UnicodeDecodeError as error:
        kind = "UTF-16" if line.startswith((b"\xff\xfe", b"\xfe\xff")) else "LATIN1"
        raise _not_utf8(path, number, kind) from error
    raise _not_utf8(path, number, kind)


def _not_utf8(path: Path, number: int, kind: str) -> Unreadable:
    fix = f"save it as UTF-8 in your editor, or run: iconv -f {kind} -t UTF-8 {path.name}"
    return Unreadable("not UTF-8 text", where=f"{path}:{number}", expected="a JSON-lines file in UTF-8", fix=fix)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Line number and content of every line that is not empty."""
    try:
        with path.open("rb") as stream:
            for number in range(1, 1 << 62):
                line = stream.readline(MAX_LINE_BYTES + 1)
                if not line:
                    return
                if len(line) > MAX_LINE_BYTES:
                    fix = "put pictures and sound into files and name their paths"
                    raise InvalidRequest(
                        "too long a line", where=f"{path}:{number}", expected=f"at most {MAX_LINE_BYTES} bytes", fix=fix
                    )
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")  # a byte order mark, as editors on Windows write
                if line.strip():
                    yield number, line
    except OSError as error:
        found = error.strerror or str(error)
        raise Unreadable(found, where=str(path), expected="a JSON-lines file", fix="check the path") from error


def digest(conversations: Sequence[Conversation]) -> str:
    """SHA-256 of everything a model gets to see: roles, texts and the bytes of every picture and recording.

    Neither ids nor paths count, so a folder can move; a file replaced under its old name does. A media file that
    cannot be read counts as absent: saying so is the business of whoever runs the model.
    """
    whole = hashlib.sha256()
    for conversation in conversations:
        messages = [
            [message["role"], [_fixed(part) for part in message["content"]]] for message in conversation.messages
        ]
        whole.update(json.dumps(messages).encode() + b"\n")  # JSON has no raw newline: conversations cannot blur
    return whole.hexdigest()


def _fixed(part: Mapping[str, Any]) -> list[str | None]:
    """A part as type and content; of media the hash, or None for a file that cannot be read."""
    kind = part["type"]
    return [kind, part["text"] if kind == "text" else _content_hash(part[kind])]


def _content_hash(source: Source) -> str | None:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    try:
        with Path(source).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None


def parse_conversation(value: Any, name: str, folder: Path, *, where: str = "") -> Conversation:
    """A conversation from a JSON value. `folder` is what relative paths are relative to, `name` becomes its id.

    Raises:
        InvalidRequest, Unreadable: as `load_conversations`.
    """
    where = where or name
    _refuse_prompt(value, where)
    messages = value.get("messages") if isinstance(value, dict) else None
    if not isinstance(messages, list) or not messages or not all(isinstance(item, dict) for item in messages):
        raise InvalidRequest("no list of messages", where=where, expected='an object with "messages"', fix=_EXAMPLE)
    check_chatml_messages(messages, where=where)
    return Conversation(name, tuple(_message(message, folder, where) for message in messages))


def _refuse_prompt(value: Any, where: str) -> None:
    """A plain prompt in place of messages is no ChatML; one with role markers would bypass the model's own template."""
    if isinstance(value, dict) and "messages" not in value:
        value = next((value[key] for key in _PROMPTS if isinstance(value.get(key), str)), None)
    if isinstance(value, str):
        check_chatml(value, where=where, fix=_EXAMPLE)
        found = f"a rendered prompt {_short(value)}"
        raise InvalidRequest(found, where=where, expected="the conversation as messages", fix=_EXAMPLE)


def _message(message: dict[str, Any], folder: Path, where: str) -> dict[str, Any]:
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not parts or not all(isinstance(part, dict) for part in parts):
        found = f"a message of the {message['role']} whose content is {_short(content)}"
        raise InvalidRequest(found, where=where, expected="a string or a list of parts", fix=_EXAMPLE)
    return {"role": message["role"], "content": [_part(part, folder, where) for part in parts]}


def _part(part: dict[str, Any], folder: Path, where: str) -> dict[str, Any]:
    """A part in one of the three normal forms."""
    kind = part.get("type")
    if kind == "text":
        return {"type": "text", "text": _string(part, "text", where)}
    if kind in ("image", "audio"):
        return {"type": kind, kind: _source(_string(part, kind, where), kind, folder, where)}
    inner = part.get(kind) if kind in ("image_url", "input_audio") else None
    if kind == "image_url":
        inner = {"url": inner} if isinstance(inner, str) else inner
        return {"type": "image", "image": _source(_string(inner, "url", where), "image", folder, where)}
    if kind == "input_audio":
        return {"type": "audio", "audio": _input_audio(inner, where)}
    fix = f"use one of: {', '.join(_PARTS)}; Qwen3-Omni's video is not supported here" if kind == "video" else ""
    raise InvalidRequest(
        f"a part of type {_short(kind)}", where=where, expected=f"one of {', '.join(_PARTS)}", fix=fix or "rename it"
    )


def _string(value: Any, key: str, where: str) -> str:
    if not isinstance(value, dict) or key not in value:
        found, fix = f'no "{key}" in {_short(value)}', "add it"
    elif not isinstance(value[key], str):
        found, fix = f'"{key}" is {_short(value[key])}, which is not a string', "write it as a string"
    elif value[key]:
        return str(value[key])
    else:
        found, fix = f'"{key}" is empty', "fill it in, or leave the part out"
    raise InvalidRequest(found, where=where, expected=f'"{key}": a string that is not empty', fix=fix)


def _source(text: str, kind: str, folder: Path, where: str) -> Source:
    """A path as absolute string, a data URI as bytes."""
    match = _DATA_URI.fullmatch(text)
    if match:
        if not (match["type"] or "").startswith(f"{kind}/"):
            found = f"a data URI of type {match['type']}"
            raise InvalidRequest(found, where=where, expected=f"data:{kind}/...", fix="correct the type")
        if not match["options"].endswith(";base64"):
            found = "a data URI without ;base64"
            raise InvalidRequest(found, where=where, expected=f"data:{kind}/...;base64,...", fix="encode it")
        return _base64(match["data"], where)
    if address := _ADDRESS.match(text):
        fixes = {"file:/": "write the path itself, without file://", "data:": f"write data:{kind}/...;base64,..."}
        fix = "download it and name its path: nothing is fetched while a model is calibrated"
        raise InvalidRequest(
            f"the address {_short(text)}", where=where, expected="a path, or a data URI in base64",
            fix=fixes.get(address[0].lower().replace("//", "/"), fix),
        )  # fmt: skip
    return _path(text, kind, folder, where)


def _path(text: str, kind: str, folder: Path, where: str) -> str:
    """The absolute path of a file that is there."""
    path = os.path.abspath(folder / os.path.expanduser(text))  # noqa: PTH100, PTH111 (resolve would follow links)
    try:
        found = "" if Path(path).is_file() else "no such file"
    except OSError as error:  # a name that is too long, a folder that may not be read
        found = error.strerror or str(error)
    if not found:
        return path
    fix, example = "check the path", {"image": "image/png", "audio": "audio/wav"}[kind]
    if len(text) > _LONG_PATH or _ENCODED.fullmatch(text):
        fix += f"; the bytes of a file are written as a data URI: data:{example};base64,..."
        path = _short(text)
    raise Unreadable(f"{found}: {path}", where=where, expected=f"an {kind} file", fix=fix)


def _input_audio(value: Any, where: str) -> bytes:
    data = _string(value, "data", where)
    declared = value.get("format", "wav")
    if declared not in _AUDIO_FORMATS:
        expected = f"one of {', '.join(_AUDIO_FORMATS)}"
        found = f"audio in the format {_short(declared)}"
        raise InvalidRequest(found, where=where, expected=expected, fix="convert it")
    if data.startswith("data:"):
        source = _source(data, "audio", Path(), where)
        if isinstance(source, bytes):
            return source
    return _base64(data, where)


def _base64(text: str, where: str) -> bytes:
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        found = f"data that is not base64 ({error})"
        raise InvalidRequest(found, where=where, expected="base64", fix="encode the file again") from error
    if not data:
        raise InvalidRequest("no data", where=where, expected="the bytes of a file, in base64", fix="add them")
    return data


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
