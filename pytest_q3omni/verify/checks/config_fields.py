"""config.json says what the source's says, apart from the quantization.

A changed `rope_theta`, token id or norm epsilon loads without a word and garbles the answers. Both configs are
compared in one spelling (`omni/config.py`), since transformers 4.57 and 5 name the same fields differently; a field
that only one of them writes out is its default and no fault; null and the empty text (what `save_pretrained` makes of a
`model_type`) count as not written out. The voices are compared by name: the config class has no default for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pytest_q3omni.omni.config import normalise
from pytest_q3omni.verify.checks._protocol import CONFIG_JSON, Check, Fault
from pytest_q3omni.verify.subject import Subject

_OWN = {"quantization_config", "transformers_version", "_name_or_path", "dtype"}
_SPEAKERS = ("talker_config", "speaker_id")
_SPEECH = ("enable_audio_output",)  # false in a thinker packed alone; whether its tensors say so, `names` asks
_UNWRITTEN: tuple[Any, ...] = (None, "")
_FIX = "take config.json from the original model and add only `quantization_config`"


def _find(subject: Subject) -> Iterator[Fault]:
    if subject.source is None:
        return
    differs = False
    for place, here, there in _differences(normalise(subject.checkpoint.config), normalise(subject.source.config), ()):
        where = ".".join((CONFIG_JSON, *place))
        if subject.sound(where) and not (place == _SPEECH and here is False):
            differs = True
            yield Fault(where, f"{here!r:.60}", f"{there!r:.60}, as in the source", _FIX)
    yield from _voices(subject)
    if differs:
        subject.expect(subject.source.config)


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
        elif left != right and left not in _UNWRITTEN and right not in _UNWRITTEN:
            yield (*place, key), left, right


CHECK = Check("config-fields", "consistent", __doc__, _find, after=("source-match",), needs="source")
