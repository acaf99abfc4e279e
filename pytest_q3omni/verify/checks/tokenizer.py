"""The tokenizer knows ChatML: `<|im_start|>` and `<|im_end|>` are single special tokens with the ids of config.json.

The talker finds the user's turn by token ids. Where a role or a marker is not one token, `generate` dies with an index
error, or speech begins at the wrong place; text-only generation does not notice. The media's placeholders that
config.json has ids for must be tokens, too, and the processor cannot be made where tokenizer_config.json does not name
them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.companions import (
    ADDED,
    MERGES,
    SPECIAL,
    TOKENIZER,
    TOKENIZER_CONFIG,
    VOCAB,
    Companions,
    vocabulary,
)
from pytest_q3omni.verify.subject import Subject

_MARKERS = {"<|im_start|>": "im_start_token_id", "<|im_end|>": "im_end_token_id"}
_ROLES = {"system": "system_token_id", "user": "user_token_id", "assistant": "assistant_token_id"}
_MEDIA = {
    "<|audio_pad|>": "audio_token_id",
    "<|image_pad|>": "image_token_id",
    "<|video_pad|>": "video_token_id",
    "<|vision_start|>": "vision_start_token_id",
    "<|vision_end|>": "vision_end_token_id",
    "<|audio_start|>": "audio_start_token_id",
    "<|audio_end|>": "audio_end_token_id",
    "<tts_pad>": "tts_pad_token_id",
    "<tts_text_bos>": "tts_bos_token_id",
    "<tts_text_eod>": "tts_eos_token_id",
}
_NAMED = (
    *("image_token", "audio_token", "video_token"),
    *("vision_bos_token", "vision_eos_token", "audio_bos_token", "audio_eos_token"),
)
"""What `Qwen3OmniMoeProcessor` asks its tokenizer for."""
_HOLD_ADDED = (TOKENIZER, TOKENIZER_CONFIG, ADDED)
_FIX = "copy tokenizer.json, tokenizer_config.json, vocab.json and merges.txt from the original model"


def _find(subject: Subject) -> Iterator[Fault]:
    if not subject.omni:
        subject.note("consistent", "tokenizer and chat template not checked: they are known for Qwen3-Omni alone")
        return
    companions = Companions(subject.checkpoint.path)
    files = companions.tokens()
    for name, error in companions.unreadable.items():
        yield Fault(name, error.found, "a readable JSON file", _FIX)
    if not companions.has(TOKENIZER) and not companions.has(VOCAB):
        if subject.sound(TOKENIZER, VOCAB):
            yield _absent(subject)
        return
    yield from _no_model(subject, companions)
    yield from _beyond(subject, files)
    yield from _contradiction(files)
    yield from _unnamed(subject, companions)
    for token, field in (_MARKERS | _ROLES | _MEDIA).items():
        yield from _token(subject, files, token, field)


def _no_model(subject: Subject, companions: Companions) -> Iterator[Fault]:
    """A fault where tokenizer.json is JSON and no tokenizer."""
    content = companions.json(TOKENIZER)
    model = {} if content is None else content.get("model")
    if content is not None and subject.sound(TOKENIZER) and not (isinstance(model, Mapping) and model.get("vocab")):
        yield Fault(TOKENIZER, "holds no model with a vocabulary: it is no tokenizer", "a whole tokenizer", _FIX)


def _unnamed(subject: Subject, companions: Companions) -> Iterator[Fault]:
    """A fault where the processor does not find the names of its tokens; only where there is a processor at all."""
    content, special = companions.json(TOKENIZER_CONFIG), companions.json(SPECIAL)
    if content is None or not subject.sound(TOKENIZER_CONFIG):
        return
    named: set[str] = set()
    for place in (content, special or {}, *map(content.get, ("extra_special_tokens", "model_specific_special_tokens"))):
        named.update(key for key, token in place.items() if token) if isinstance(place, Mapping) else None
    lacking = [name for name in _NAMED if name not in named]
    if lacking:
        found = f"does not name {', '.join(lacking)}: the processor cannot be made"
        yield Fault(TOKENIZER_CONFIG, found, "the source's names of its special tokens", _FIX)


def _beyond(subject: Subject, files: Mapping[str, Mapping[str, tuple[int, bool]]]) -> Iterator[Fault]:
    """A fault for each file with a token that the embeddings have no row for."""
    size = vocabulary(subject.checkpoint.config)
    for name, tokens in files.items() if size is not None else ():
        token, number = max(((token, number) for token, (number, _) in tokens.items()), key=_number, default=("", 0))
        if size is not None and number >= size:
            found = f"'{token:.40}' has the id {number}, and the embeddings have {size:,} rows"
            yield Fault(name, found, "ids below vocab_size", _FIX)


def _contradiction(files: Mapping[str, Mapping[str, tuple[int, bool]]]) -> Iterator[Fault]:
    """Faults where files give tokens other ids than tokenizer.json does: slow and fast tokenizers then differ."""
    slow, fast = files.get(VOCAB, {}), files.get(TOKENIZER, {})
    differing = [token for token, (number, _) in slow.items() if token in fast and fast[token][0] != number]
    if differing:
        token = differing[0]
        found = f"{len(differing):,} tokens have other ids than in {TOKENIZER}, first {token!a:.40}: {slow[token][0]}"
        yield Fault(VOCAB, found, f"{fast[token][0]}", _FIX)
    elif 2 * len(slow) < len(fast) and VOCAB in files:
        yield Fault(VOCAB, f"{len(slow):,} tokens, and {len(fast):,} in {TOKENIZER}", "the same vocabulary", _FIX)
    names = {number: token for token, (number, _) in fast.items()}
    for name in (TOKENIZER_CONFIG, ADDED):
        for token, (number, _) in files.get(name, {}).items():
            if names.get(number, token) != token and token not in fast:
                found = f"{number} is {token!a:.40}, and {names[number]!a:.40} in {TOKENIZER}"
                yield Fault(name, found, "one name for a token", _FIX, blames=(TOKENIZER,))
                break


def _number(token: tuple[str, int]) -> int:
    return token[1]


def _absent(subject: Subject) -> Fault:
    expected = "a tokenizer beside the weights"
    if subject.source is not None and not _has_tokenizer(Companions(subject.source.path)):
        return Fault(TOKENIZER, "no tokenizer, as in the source", expected, _FIX, "warning")
    found = f"neither it nor {VOCAB} is there: the model cannot read a prompt"
    return Fault(TOKENIZER, found, expected, _FIX, blames=(VOCAB, MERGES, TOKENIZER_CONFIG))


def _has_tokenizer(companions: Companions) -> bool:
    return companions.has(TOKENIZER) or companions.has(VOCAB)


def _token(
    subject: Subject, files: Mapping[str, Mapping[str, tuple[int, bool]]], token: str, field: str
) -> Iterator[Fault]:
    """Faults of one token; the media's are judged only where config.json has an id, the roles' are not special."""
    wanted = _ids(subject.checkpoint.config, field)
    holding = {name: tokens[token] for name, tokens in files.items() if token in tokens}
    place = next((name for name in _HOLD_ADDED if name in files), TOKENIZER)
    if not holding and token in _MEDIA and not wanted:
        return
    if not holding or (place == TOKENIZER and TOKENIZER in files and token not in files[TOKENIZER]):
        if subject.sound(place):
            yield Fault(place, f"'{token}' is not in the vocabulary: it becomes several tokens", "one token", _FIX)
        return
    for name, (number, special) in holding.items():
        if token in _MARKERS and not special and name != VOCAB:
            yield Fault(
                name,
                f"'{token}' is an ordinary token: text that spells it out would open a turn",
                "a special token",
                _FIX,
            )
        for path, number_wanted in wanted.items():
            if number != number_wanted and subject.sound(f"config.json.{path}"):
                yield Fault(
                    name, f"'{token}' has the id {number}", f"{number_wanted}, as config.json.{path} says", _FIX
                )
                break


def _ids(config: Mapping[str, Any], field: str, place: str = "") -> dict[str, int]:
    """Dotted place -> id, for every section that has the field."""
    found = {f"{place}{field}": config[field]} if type(config.get(field)) is int else {}
    for key in ("thinker_config", "talker_config"):
        section = config.get(key)
        if not place and isinstance(section, Mapping):
            found |= _ids(section, field, f"{key}.")
    return found


CHECK = Check("tokenizer", "consistent", __doc__, _find, after=("model-config",))
