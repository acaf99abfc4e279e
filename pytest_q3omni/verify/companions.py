"""The small files beside the weights, read as data: JSON objects that may be missing, damaged or hostile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_q3omni.errors import CheckpointError
from pytest_q3omni.omni.config import read_json
from pytest_q3omni.omni.untrusted_files import inside, read_at_most
from pytest_q3omni.verify.class_defaults import PROCESSOR

TOKENIZER, TOKENIZER_CONFIG, VOCAB = "tokenizer.json", "tokenizer_config.json", "vocab.json"
ADDED, MERGES, SPECIAL = "added_tokens.json", "merges.txt", "special_tokens_map.json"
TEMPLATE, TEMPLATE_JSON = "chat_template.jinja", "chat_template.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
VIDEO_PROCESSOR, GENERATION = "video_preprocessor_config.json", "generation_config.json"
READ = (
    *(TOKENIZER, TOKENIZER_CONFIG, VOCAB, MERGES, ADDED, SPECIAL),
    *(TEMPLATE, TEMPLATE_JSON, *PROCESSORS, VIDEO_PROCESSOR, GENERATION),
)
"""Every file beside the weights that loaders read."""
_MOST_TEXT = 16_000_000
SECTIONS = {"image_processor": (), "feature_extractor": (), "video_processor": (VIDEO_PROCESSOR,)}
"""Section of processor_config.json -> files beside preprocessor_config.json that come before that one without it."""
_DERIVED = {"n_samples", "nb_max_frames", "size", "processor_class"}
_EDGES = {"shortest_edge": "min_pixels", "longest_edge": "max_pixels"}


class Companions:
    """The companion files of one directory. A file that cannot be read counts as absent; `unreadable` says why."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.unreadable: dict[str, CheckpointError] = {}

    def has(self, name: str) -> bool:
        """True where the directory has such a file, and not a link to a file elsewhere."""
        file = self._path / name
        try:
            return file.is_file() and inside(file)
        except OSError:
            return False

    def json(self, name: str) -> Mapping[str, Any] | None:
        """The JSON object in file `name`, None where there is none."""
        if not self.has(name):
            return None
        try:
            return read_json(self._path / name)
        except CheckpointError as error:
            self.unreadable[name] = error
            return None

    def text(self, name: str) -> str | None:
        """The text of file `name`, None where there is none or it is larger than 16 MB.

        Raises:
            OSError: it is there and cannot be read, which is a finding of the check that asks.
        """
        raw = read_at_most(self._path / name, _MOST_TEXT) if self.has(name) else None
        return None if raw is None else raw.decode("utf-8", errors="replace")

    def part(self, section: str) -> Mapping[str, Any] | None:
        """What transformers 5 reads one part of the processor from: the nested section of processor_config.json, or
        else the older files. None where there is no file."""
        content = self.json(PROCESSORS[1])
        nested = (content or {}).get(section)
        if isinstance(nested, Mapping):
            return nested
        if section == "video_processor" and any(isinstance((content or {}).get(other), Mapping) for other in SECTIONS):
            content = None  # one file for images and sound: what videos get is not written there
        files = (self.json(name) for name in (*SECTIONS[section], PROCESSORS[0]))
        return next((found for found in files if found is not None), content)

    def processor(self, section: str) -> Mapping[str, Any]:
        """One part of the processor as it takes effect: what no file says is as its class has it. In one spelling:
        pixels instead of edges, no values that are computed from others. Empty where there is no file.
        """
        part = self.part(section)
        if part is None:
            return {}
        expected, defaults = PROCESSOR[section]
        known = str(part.get(f"{section}_type") or expected).startswith(expected)
        return {**(defaults if known else {}), **_one_spelling(part)}

    def tokens(self) -> dict[str, dict[str, tuple[int, bool]]]:
        """File -> token -> (id, special), of every tokenizer file that is there.

        Plain vocabulary entries are not special; `added_tokens.json` does not say and counts as special.
        """
        found: dict[str, dict[str, tuple[int, bool]]] = {}
        for name, read in ((TOKENIZER, _tokenizer), (TOKENIZER_CONFIG, _decoder), (ADDED, _added), (VOCAB, _plain)):
            content = self.json(name)
            if content is not None:
                found[name] = dict(read(content))
        return found

    def templates(self) -> dict[str, str]:
        """File -> chat template, of every place that holds one, in the order in which transformers prefers them."""
        found: dict[str, str] = {}
        text = self.text(TEMPLATE)
        if text is not None:
            found[TEMPLATE] = text
        for name in (TEMPLATE_JSON, TOKENIZER_CONFIG):
            template = (self.json(name) or {}).get("chat_template")
            if isinstance(template, list):  # named templates: {"name", "template"}
                parts = [item.get("template") for item in template if isinstance(item, Mapping)]
                template = "\n".join(part for part in parts if isinstance(part, str))
            if isinstance(template, str):
                found[name] = template
        return found


def same_value(key: str, left: Any, right: Any) -> bool:
    """True where a field means the same twice: one stop token may stand in a list, and their order is no matter."""
    if key == "eos_token_id" and list in (type(left), type(right)):
        left, right = (sorted(map(str, value if isinstance(value, list) else [value])) for value in (left, right))
    return bool(left == right)


def vocabulary(config: Mapping[str, Any]) -> int | None:
    """How many tokens the text model knows, None where the config does not say."""
    for key in ("thinker_config", "text_config"):
        inner = config.get(key)
        config = inner if isinstance(inner, Mapping) else config
    size = config.get("vocab_size")
    return size if type(size) is int else None


def _one_spelling(content: Mapping[str, Any]) -> dict[str, Any]:
    size = content.get("size")
    edges = size if isinstance(size, Mapping) else {}
    pixels = {name: edges[edge] for edge, name in _EDGES.items() if edge in edges}
    own = {key: value for key, value in content.items() if key not in _DERIVED and not key.endswith("_type")}
    return pixels | {key: value for key, value in own.items() if value is not None}


_Tokens = Iterator[tuple[str, tuple[int, bool]]]


def _tokenizer(content: Mapping[str, Any]) -> _Tokens:
    model = content.get("model")
    if isinstance(model, Mapping):
        yield from _plain(model.get("vocab"))
    added = content.get("added_tokens")
    for token in added if isinstance(added, list) else ():
        if isinstance(token, Mapping):
            yield from _entry(token.get("content"), token.get("id"), token.get("special"))


def _decoder(content: Mapping[str, Any]) -> _Tokens:
    decoder = content.get("added_tokens_decoder")
    for number, token in decoder.items() if isinstance(decoder, Mapping) else ():
        if isinstance(token, Mapping) and str(number).isdecimal() and len(number) < 12:
            yield from _entry(token.get("content"), int(number), token.get("special"))


def _added(content: Mapping[str, Any]) -> _Tokens:
    for token, number in content.items():
        yield from _entry(token, number, True)


def _plain(vocab: Any) -> _Tokens:
    for token, number in vocab.items() if isinstance(vocab, Mapping) else ():
        yield from _entry(token, number, False)


def _entry(token: Any, number: Any, special: Any) -> _Tokens:
    if isinstance(token, str) and type(number) is int:
        yield token, (number, special is True)
