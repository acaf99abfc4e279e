"""Tokenizer, processor and generation config are the source's.

A processor with another `longest_edge` or sampling rate changes what the model sees and how much memory it takes
(vllm#46268 took 52 GiB). Files are compared by value: a release that writes a default out, or leaves a key away, is a
warning; a value that changed is an error. So is a value left out of the processor whose class has another default, a
stop token left out, and tokens left out of a vocabulary. vocab.json, merges.txt and the like may be missing beside a
tokenizer.json, which holds them, and it beside both. A `processor_config.json` overrides `preprocessor_config.json` in
transformers 5, so what takes effect is compared. Files that no loader reads (ModelScope's `configuration.json`, a
`trainer_state.json`) are nobody's loss and not looked at. Without a source the processor must at least cut patches and
mel bins as the towers take them, and generation stop at a token that there is, the turn's end among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.companions import (
    ADDED,
    GENERATION,
    MERGES,
    PROCESSORS,
    READ,
    SECTIONS,
    SPECIAL,
    TEMPLATE,
    TEMPLATE_JSON,
    TOKENIZER,
    TOKENIZER_CONFIG,
    VIDEO_PROCESSOR,
    VOCAB,
    Companions,
    same_value,
    vocabulary,
)
from pytest_q3omni.verify.subject import Subject

_VOLATILE = {"transformers_version", "_name_or_path", "name_or_path", "torch_dtype", "dtype", "_from_model_config"}
_REPLACED = {
    VOCAB: TOKENIZER,
    MERGES: TOKENIZER,
    ADDED: TOKENIZER,
    SPECIAL: TOKENIZER,
    PROCESSORS[0]: PROCESSORS[1],
    PROCESSORS[1]: PROCESSORS[0],
    VIDEO_PROCESSOR: PROCESSORS[1],
}
_NAMED = ("extra_special_tokens", "model_specific_special_tokens")  # 4.57's and 5's name for {attribute: token}
_LISTED = ("additional_special_tokens", "extra_special_tokens")  # and for the list of the others


def _find(subject: Subject) -> Iterator[Fault]:
    here = Companions(subject.checkpoint.path)
    yield from _with_source(subject, here)
    for name in (*PROCESSORS, VIDEO_PROCESSOR, GENERATION, SPECIAL):
        if here.json(name) is None and name in here.unreadable and subject.sound(name):
            yield Fault(name, here.unreadable[name].found, "a readable JSON file", f"copy {name} from the original")
    yield from _geometry(subject, here)
    yield from _stop_tokens(subject, here)


def _geometry(subject: Subject, here: Companions) -> Iterator[Fault]:
    """Faults where the processor cuts pictures and sound otherwise than the towers take them."""
    place = PROCESSORS[1] if here.has(PROCESSORS[1]) else PROCESSORS[0]
    thinker = subject.checkpoint.config.get("thinker_config", subject.checkpoint.config)
    for section, key, tower, field in _GEOMETRY:
        part = thinker.get(tower) if isinstance(thinker, Mapping) else None
        wanted = part.get(field) if isinstance(part, Mapping) else None
        found = here.processor(section).get(key)
        if type(wanted) is int and type(found) is int and found != wanted and subject.sound(place):
            expected = f"{wanted}, as {tower}.{field} says"
            yield Fault(place, f"{section}.{key} is {found}", expected, f"copy {place} from the original model")
    part = here.part("image_processor") or {}
    unnamed = "feature_extractor_type" in part and not part.get("image_processor_type")
    if unnamed and subject.omni and subject.sound(place):
        found = "names no image_processor_type: transformers takes it for a sound model's and gives up"
        yield Fault(place, found, "Qwen2VLImageProcessor", f"copy {place} from the original model")


def _stop_tokens(subject: Subject, here: Companions) -> Iterator[Fault]:
    """Faults where the model is to stop at a token that it cannot write, or not where its turn ends; and of sampling
    that no engine accepts."""
    content = here.json(GENERATION) or {}
    told, fix = content.get("eos_token_id"), f"copy {GENERATION} from the original model"
    if not subject.sound(GENERATION):
        return
    tokens = told if isinstance(told, list) else [told]
    numbers = [token for token in tokens if type(token) is int]
    size, end = vocabulary(subject.checkpoint.config), _turn_end(subject, here)
    beyond = [token for token in numbers if size is not None and not 0 <= token < size]
    if told is not None and (len(numbers) != len(tokens) or not numbers):
        yield Fault(GENERATION, f"eos_token_id {told!r:.60}", "a token's number, or a list of such", fix)
    elif beyond:
        found = f"eos_token_id {beyond[0]}, and the vocabulary has {size:,}"
        yield Fault(GENERATION, found, "a token of the vocabulary", fix)
    elif numbers and end is not None and end not in numbers and subject.source is None:
        found = f"eos_token_id {told!r:.60}: generation does not stop where the turn ends"
        yield Fault(GENERATION, found, f"{end} among them, which is config.json.im_end_token_id", fix)
    for key, low in _SAMPLING.items():
        value = content.get(key)
        if value is not None and (type(value) not in (int, float) or not value >= low):
            yield Fault(GENERATION, f"{key} {value!r:.60}", f"a number from {low} on", fix)


def _turn_end(subject: Subject, here: Companions) -> int | None:
    """The id of `<|im_end|>` where config.json and every tokenizer file agree on it."""
    told = subject.checkpoint.config.get("im_end_token_id")
    known = {tokens["<|im_end|>"][0] for tokens in here.tokens().values() if "<|im_end|>" in tokens}
    return told if type(told) is int and known == {told} else None


def _with_source(subject: Subject, here: Companions) -> Iterator[Fault]:
    """What is missing or changed; without a source, what no model can do without."""
    if subject.source is None and not subject.omni:
        return
    if subject.source is None:
        if not any(map(here.has, PROCESSORS)) and subject.sound(*PROCESSORS):
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
    for name in filter(there.has, READ):
        fix = f"copy {name} from the source"
        if not here.has(name):
            if not _replaced(name, here) and subject.sound(name):
                yield Fault(name, "missing", "the file that the source has", fix)
        elif subject.sound(name) and not (name == VOCAB and here.has(TOKENIZER) and not subject.sound(TOKENIZER)):
            yield from _compare(name, here, there, fix)
    yield from _effective(subject, here, there)


def _replaced(name: str, here: Companions) -> bool:
    """True where another file holds what the missing one held."""
    if name == TOKENIZER:
        return here.has(VOCAB) and here.has(MERGES)
    if name in (TEMPLATE, TEMPLATE_JSON) and (here.has(TEMPLATE) or here.has(TEMPLATE_JSON)):
        return True
    return name in _REPLACED and here.has(_REPLACED[name])


def _effective(subject: Subject, here: Companions, there: Companions) -> Iterator[Fault]:
    """A fault for the first part of the processor that reads another value than the source's does."""
    place = PROCESSORS[1] if here.has(PROCESSORS[1]) else PROCESSORS[0]
    for section in SECTIONS if subject.omni else ():
        if not subject.sound(*PROCESSORS, VIDEO_PROCESSOR) or not here.processor(section):
            return
        count, first = _changed(here.processor(section), there.processor(section))
        if first is not None:
            key, mine, theirs = first
            more = f" and {count - 1} more fields" if count > 1 else ""
            fix = "copy the processor's files from the source, and remove those that it does not have"
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


def _merges(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """A tokenizer whose merges are pairs, as recent releases write them; older ones write texts, "a b"."""
    model = content.get("model")
    merges = model.get("merges") if isinstance(model, Mapping) else None
    if not isinstance(model, Mapping) or not isinstance(merges, list):
        return content
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in merges]
    return {**content, "model": {**model, "merges": pairs}}


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
        found = f"not compared, since the source's cannot be read: {there.unreadable[name].found}"
        yield Fault(name, found, "a readable JSON file in the source", "download the source again", "warning")
        return
    if left is None:
        yield Fault(name, here.unreadable[name].found, "a readable JSON file", fix)
        return
    if name == TOKENIZER:
        left, right = _merges(left), _merges(right)
    if name == TOKENIZER_CONFIG:
        left, right = _special_tokens(left), _special_tokens(right)
    count, first = _changed(left, right)
    if first is not None:
        place, mine, theirs = first
        more = f" and {count - 1} more fields" if count > 1 else ""
        if count == 1 and name == GENERATION and _more_stops(*first):
            yield Fault(name, f"{place} is {mine!r:.60}", f"{theirs!r:.60} alone, as in the source", fix, "warning")
            return
        yield Fault(name, f"{place} is {mine!r:.60}{more}", f"{theirs!r:.60}, as in the source", fix)
        return
    lost = _lost(name, left, right)
    if lost:
        yield Fault(name, lost, "as in the source", fix)
        return
    only = (place for place, *_ in _differences(left, right, ""))
    told = list(islice(only, 5))
    if told:
        found = f"{len(told) + sum(1 for _ in only)} keys differ from the source's: {', '.join(told)}"
        yield Fault(name, found, "the source's keys", fix, "warning")


def _more_stops(place: str, here: Any, there: Any) -> bool:
    """True where generation stops at the source's tokens, and at others, too."""
    wanted = there if isinstance(there, list) else [there]
    return place == "eos_token_id" and isinstance(here, list) and all(token in here for token in wanted)


def _lost(name: str, here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """What the source's file has and this one cannot do without, "" where it has all that."""
    if name == GENERATION and there.get("eos_token_id") is not None and here.get("eos_token_id") is None:
        return f"no eos_token_id, which is {there['eos_token_id']!r:.60} in the source: generation does not stop"
    if name == TOKENIZER:
        gone = [key for key in _PIPELINE if there.get(key) and not here.get(key)]
        if gone:
            return f"lacks {', '.join(gone)}"
        here, there = (_vocabulary(content) for content in (here, there))
    if name in (TOKENIZER, VOCAB, ADDED) and there.keys() - here.keys():
        missing = there.keys() - here.keys()
        return f"lacks {len(missing):,} of {len(there):,} tokens, one of them {min(missing)!a:.40}"
    return ""


def _vocabulary(tokenizer: Mapping[str, Any]) -> Mapping[str, Any]:
    model = tokenizer.get("model")
    vocab = model.get("vocab") if isinstance(model, Mapping) else None
    return vocab if isinstance(vocab, Mapping) else {}


_PIPELINE = ("model", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder")
"""What a tokenizer.json does to text."""
_SAMPLING = {"temperature": 0, "top_p": 0, "repetition_penalty": 0}
_GEOMETRY = (
    ("image_processor", "patch_size", "vision_config", "patch_size"),
    ("image_processor", "temporal_patch_size", "vision_config", "temporal_patch_size"),
    ("image_processor", "merge_size", "vision_config", "spatial_merge_size"),
    ("feature_extractor", "feature_size", "audio_config", "num_mel_bins"),
)
"""Section and key of the processor, config and field that must agree with it."""
_NOTHING = object()
_Difference = tuple[str, Any, Any]


def _changed(here: Mapping[str, Any], there: Mapping[str, Any]) -> tuple[int, _Difference | None]:
    """(how many fields that both have differ, the first of them). Counted, not kept: a stranger's file has millions."""
    both = (each for each in _differences(here, there, "") if each[1] is not _NOTHING and each[2] is not _NOTHING)
    first = next(both, None)
    return (0, None) if first is None else (1 + sum(1 for _ in both), first)


def _differences(here: Mapping[str, Any], there: Mapping[str, Any], prefix: str) -> Iterator[_Difference]:
    for key in sorted((here.keys() | there.keys()) - _VOLATILE):
        left, right = here.get(key, _NOTHING), there.get(key, _NOTHING)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            yield from _differences(left, right, f"{prefix}{key}.")
        elif not same_value(key, left, right):
            yield f"{prefix}{key}", left, right


CHECK = Check("companions", "consistent", __doc__, _find, after=("chat-template",))
