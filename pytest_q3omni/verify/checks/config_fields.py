"""config.json says what the source's says, apart from the quantization.

A changed `rope_theta`, token id or norm epsilon loads without a word and garbles the answers. Both configs are
compared in one spelling (`omni/config.py`), since transformers 4.57 and 5 name the same fields differently; a field
that only one of them writes out is the class's default in the other (`verify/class_defaults.py`), and a fault where
that is another value; null and the empty text (what `save_pretrained` makes of a `model_type`) count as not written
out. The voices are compared by name: the config class has no default for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pytest_q3omni.omni.config import normalise
from pytest_q3omni.verify.checks._protocol import CONFIG_JSON, Check, Fault
from pytest_q3omni.verify.class_defaults import CONFIG
from pytest_q3omni.verify.companions import same_value
from pytest_q3omni.verify.subject import Subject

_OWN = {"quantization_config", "transformers_version", "_name_or_path", "dtype"}
_SPEAKERS = ("talker_config", "speaker_id")
_SPEECH = ("enable_audio_output",)  # false in a thinker packed alone; whether its tensors say so, `names` asks
_UNWRITTEN: tuple[Any, ...] = (None, "")
_MISSING, _ABSENT = object(), object()
_FIX = "take config.json from the original model and add only `quantization_config`"


def _find(subject: Subject) -> Iterator[Fault]:
    if subject.source is None:
        return
    differs = False
    mine, theirs = normalise(subject.checkpoint.config), normalise(subject.source.config)
    for place, here, there in _differences(mine, theirs, ()):
        where = ".".join((CONFIG_JSON, *place))
        if subject.sound(where) and not (place == _SPEECH and here is False):
            differs = True
            yield Fault(where, f"{here!r:.60}", f"{there!r:.60}, as in the source", _FIX)
    yield from _voices(subject)
    for fault in _left_out(mine, theirs):
        if subject.sound(fault.where):
            differs = True
            yield fault
    if differs:
        subject.expect(subject.source.config)


def _left_out(here: Mapping[str, Any], there: Mapping[str, Any]) -> Iterator[Fault]:
    """A fault for each field that one side leaves to its default, and the other sets to something else."""
    kind = there.get("model_type")
    told = set()
    for field, default in CONFIG.get(kind, {}).items() if isinstance(kind, str) else ():
        (mine, left_out), (theirs, _) = _written(here, field), _written(there, field)
        one_side = (mine is _MISSING) is not (theirs is _MISSING) and _ABSENT not in (mine, theirs)
        effective, wanted = (default if value is _MISSING else value for value in (mine, theirs))
        if not one_side or effective == wanted or left_out in told:
            continue
        told.add(left_out)
        found = "is not there" if mine is _MISSING else "is there, and the source leaves it out"
        found = f"{found}: {field} becomes {effective!r:.60}"
        yield Fault(f"{CONFIG_JSON}.{left_out}", found, f"{wanted!r:.60}, as in the source", _FIX)


def _written(config: Mapping[str, Any], field: str) -> tuple[Any, str]:
    """(value, the first part of the dotted place that is not there, or all of it). A section without which there is no
    such module (a thinker alone has no talker) makes its fields absent, not missing."""
    parts = field.split(".")
    value: Any = config
    for number, part in enumerate(parts):
        value = value.get(part) if isinstance(value, Mapping) else None
        if value in _UNWRITTEN:
            return (_ABSENT if part.endswith("_config") else _MISSING), ".".join(parts[: number + 1])
    return value, field


def _voices(subject: Subject) -> Iterator[Fault]:
    """A fault where the talker lacks voices of the source: asked for one of them, `generate` fails."""
    assert subject.source is not None
    talker = subject.checkpoint.config.get("talker_config")
    where = ".".join((CONFIG_JSON, *_SPEAKERS))
    if not isinstance(talker, Mapping) or not subject.sound(where):
        return
    here, there = _speakers(subject.checkpoint.config), _speakers(subject.source.config)
    lacking = sorted(there.keys() - here.keys())
    if lacking:
        yield Fault(where, f"lacks {', '.join(lacking):.60}", f"the source's {len(there)} voices", _FIX)


def _speakers(config: Mapping[str, Any]) -> Mapping[str, Any]:
    talker = config.get(_SPEAKERS[0])
    found = talker.get(_SPEAKERS[1]) if isinstance(talker, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _differences(
    here: Mapping[str, Any], there: Mapping[str, Any], place: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    for key in here.keys() & there.keys() - _OWN:
        left, right = here[key], there[key]
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            yield from _differences(left, right, (*place, key))
        elif not same_value(key, left, right) and left not in _UNWRITTEN and right not in _UNWRITTEN:
            yield (*place, key), left, right


CHECK = Check("config-fields", "consistent", __doc__, _find, after=("source-match",), needs="source")
