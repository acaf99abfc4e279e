"""Scales of an FP8 KV cache are finite, positive and complete: a key's and a value's for every layer that has one.

They are the amax of keys and values / 448. Engines take 1 for a scale that is missing, so a layer without its own
saturates or wastes bits beside layers that have one; NaN in one scale is NaN in every token after the first.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping

from pytest_q3omni.omni.naming import in_layer
from pytest_q3omni.verify.checks._protocol import CONFIG_JSON, Check, Fault
from pytest_q3omni.verify.reading import floats
from pytest_q3omni.verify.subject import Subject

_ENDS = {".k_scale": "key", ".v_scale": "value"}
_FIX = "calibrate the KV cache again, or take its scales and its declaration out"
_MOST = 1000.0  # of a scale: keys of 448,000 are no activations of a BF16 model


def _find(subject: Subject) -> Iterator[Fault]:
    names = [name for name in subject.entries if name.endswith(tuple(_ENDS)) and subject.sound(name)]
    if not names:
        return
    if subject.claim is not None and subject.claim.usable and not subject.claim.declared.kv_cache:
        place, found = f"{CONFIG_JSON}.quantization_config", f"declares no KV cache, and {len(names)} scales are stored"
        yield Fault(place, found, "kv_cache_scheme for FP8, or no such scales", _FIX, "warning")
    for name in names:
        info = subject.entries[name].info
        values = floats(subject.checkpoint, name) if math.prod(info.shape) == 1 else None
        if values is None:
            yield Fault(name, f"{info.dtype} {list(info.shape)}", "one float", _FIX)
        elif not 0 < values[0] <= _MOST:
            yield Fault(name, f"{values[0]:.6g}", f"a finite number above 0, at most {_MOST:.0f}: amax / 448", _FIX)
    yield from _incomplete(subject, names)


def _incomplete(subject: Subject, names: list[str]) -> Iterator[Fault]:
    """Layers without a key's or a value's scale, in a stack of layers where others have one."""
    there: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name in names:
        place = in_layer(name)
        if place is not None:
            there[place.stack][place.number].add(name[name.rindex(".") :])
    described = _layers(subject)
    for stack, layers in there.items():
        expected = described.get(stack) or set(layers)
        for number in sorted(expected):
            for end, what in _ENDS.items():
                if end not in layers.get(number, ()):
                    told = f"no {what} scale, and {len(layers)} layers of {stack} have scales"
                    yield Fault(f"{stack}.{number}", told, "one for the keys and one for the values", _FIX)
                    break


def _layers(subject: Subject) -> Mapping[str, set[int]]:
    """Stack -> the layers with attention that the config describes in it."""
    found: dict[str, set[int]] = defaultdict(set)
    for place in (in_layer(name) for name in subject.implied if name.endswith(".k_proj.weight")):
        if place is not None:
            found[place.stack].add(place.number)
    return found


CHECK = Check("kv-cache-scales", "consistent", __doc__, _find, after=("shapes",), reads="scales")
