"""Tokenizer, processor and generation config are the source's.

A processor with another `longest_edge` or sampling rate changes what the model sees and how much memory it takes
(vllm#46268 took 52 GiB). Files are compared by value: a release that writes a default out, or leaves a key away, is a
warning; a value that changed is an error. vocab.json, merges.txt and the like may be missing beside a tokenizer.json,
which holds them, and it beside both. A `processor_config.json` overrides `preprocessor_config.json` in transformers 5,
so where only one side has it, what takes effect is compared. Files that no loader reads (ModelScope's
`configuration.json`, a `trainer_state.json`) are nobody's loss and not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.companions import (
    ADDED,
    GENERATION,
    MERGES,
    PROCESSORS,
    SECTIONS,
    SPECIAL,
    TEMPLATE,
    TEMPLATE_JSON,
    TOKENIZER,
    TOKENIZER_CONFIG,
    VIDEO_PROCESSOR,
    VOCAB,
    Companions,
)
from pytest_q3omni.verify.subject import Subject

_COMPARED = (
    *(TOKENIZER, TOKENIZER_CONFIG, VOCAB, MERGES, ADDED, SPECIAL),
    *(TEMPLATE, TEMPLATE_JSON, *PROCESSORS, VIDEO_PROCESSOR, GENERATION),
)
_VOLATILE = {"transformers_version", "_name_or_path", "name_or_path", "torch_dtype", "dtype", "_from_model_config"}
_REPLACED = {
    VOCAB: TOKENIZER,
    MERGES: TOKENIZER,
    ADDED: TOKENIZER,
    SPECIAL: TOKENIZER,
    TEMPLATE: TEMPLATE_JSON,
    TEMPLATE_JSON: TEMPLATE,
    PROCESSORS[0]: PROCESSORS[1],
    PROCESSORS[1]: PROCESSORS[0],
    VIDEO_PROCESSOR: PROCESSORS[1],
}
_NAMED = ("extra_special_tokens", "model_specific_special_tokens")  # 4.57's and 5's name for {attribute: token}
_LISTED = ("additional_special_tokens", "extra_special_tokens")  # and for the list of the others


def _find(subject: Subject) -> Iterator[Fault]:
    here = Companions(subject.checkpoint.path)
    if subject.source is None:
        if not any(map(here.has, PROCESSORS)):
            yield Fault(
                PROCESSORS[0],
                "no processor config: images and audio cannot be read",
                "one beside the weights",
                "copy preprocessor_config.json from the original model",
            )
        if not here.has(TOKENIZER_CONFIG) and subject.sound(TOKENIZER_CONFIG):
            yield Fault(
                TOKENIZER_CONFIG,
                "missing: the processor cannot be loaded",
                "one beside the weights",
                f"copy {TOKENIZER_CONFIG} from the original model",
            )
        return
    there = Companions(subject.source.path)
    for name in filter(there.has, _COMPARED):
        fix = f"copy {name} from the source"
        if not here.has(name):
            if not _replaced(name, here) and subject.sound(name):
                yield Fault(name, "missing", "the file that the source has", fix)
        elif subject.sound(name):
            yield from _compare(name, here, there, fix)
    if here.has(PROCESSORS[1]) != there.has(PROCESSORS[1]):
        yield from _effective(here, there)


def _replaced(name: str, here: Companions) -> bool:
    """True where another file holds what the missing one held."""
    if name == TOKENIZER:
        return here.has(VOCAB) and here.has(MERGES)
    return name in _REPLACED and here.has(_REPLACED[name])


def _effective(here: Companions, there: Companions) -> Iterator[Fault]:
    """One fault for each part of the processor that reads another value than the source's does."""
    place = PROCESSORS[1] if here.has(PROCESSORS[1]) else PROCESSORS[0]
    for section in SECTIONS:
        found = _differences(here.processor(section), there.processor(section), "")
        changed = [each for each in found if each[1] is not _NOTHING and each[2] is not _NOTHING]
        if changed:
            key, mine, theirs = changed[0]
            more = f" and {len(changed) - 1} more fields" if len(changed) > 1 else ""
            fix = f"remove {PROCESSORS[1]} and copy the processor's files from the source"
            yield Fault(
                place, f"{section}.{key} takes effect as {mine!r:.60}{more}", f"{theirs!r:.60}, as in the source", fix
            )


def _special_tokens(content: Mapping[str, Any]) -> dict[str, Any]:
    """A tokenizer config with its special tokens spelled as transformers 5 does, lists in order of the alphabet."""
    result = {key: value for key, value in content.items() if key not in {*_NAMED, *_LISTED}}
    for new, olds, kind in ((_NAMED[1], _NAMED, Mapping), (_LISTED[1], _LISTED, list)):
        given = [content[old] for old in olds if isinstance(content.get(old), kind) and content[old]]
        if given:
            result[new] = given[0] if kind is Mapping else sorted(map(_content, given[0]))
    return result


def _content(token: Any) -> str:
    """The text of a token that is written out as text or as an object."""
    return str(token.get("content") if isinstance(token, Mapping) else token)


def _compare(name: str, here: Companions, there: Companions, fix: str) -> Iterator[Fault]:
    if not name.endswith(".json"):
        if (here.text(name) or "").strip() != (there.text(name) or "").strip():
            yield Fault(name, "another text than in the source", "the source's", fix)
        return
    left, right = here.json(name), there.json(name)
    if right is None:
        return
    if left is None:
        yield Fault(name, here.unreadable[name].found, "a readable JSON file", fix)
        return
    if name == TOKENIZER_CONFIG:
        left, right = _special_tokens(left), _special_tokens(right)
    differences = list(_differences(left, right, ""))
    changed = [found for found in differences if found[1] is not _NOTHING and found[2] is not _NOTHING]
    only = [place for place, mine, theirs in differences if mine is _NOTHING or theirs is _NOTHING]
    if changed:
        place, mine, theirs = changed[0]
        more = f" and {len(changed) - 1} more fields" if len(changed) > 1 else ""
        yield Fault(name, f"{place} is {mine!r:.60}{more}", f"{theirs!r:.60}, as in the source", fix)
    elif only:
        found = f"{len(only)} keys differ from the source's: {', '.join(only[:5])}"
        yield Fault(name, found, "the source's keys", fix, "warning")


_NOTHING = object()


def _differences(here: Mapping[str, Any], there: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any, Any]]:
    for key in sorted((here.keys() | there.keys()) - _VOLATILE):
        left, right = here.get(key, _NOTHING), there.get(key, _NOTHING)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            yield from _differences(left, right, f"{prefix}{key}.")
        elif left != right:
            yield f"{prefix}{key}", left, right


CHECK = Check("companions", "consistent", __doc__, _find, after=("chat-template",))
