"""Layers with one input have one input scale: q/k/v, gate/up, and all experts of a layer where the writer shares it.

q/k/v and gate/up multiply the same activations as one matrix, so different scales are a mistake. Experts are another
matter: ModelOpt's fused experts share one scale for a layer, its older modules calibrate each expert for itself, and
vLLM takes the largest. Both are legal. So an expert is held to its layer's scale only where most experts of the layer
have it: then the writer shares, and the odd one out was damaged.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from pytest_q3omni.omni.naming import experts_module, fused_group, input_site
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject

_AGAIN = "take the largest for all of them, or calibrate and pack again"


def _find(subject: Subject) -> Iterator[Fault]:
    groups: dict[str, dict[str, float]] = defaultdict(dict)
    layers: dict[str, dict[str, float]] = defaultdict(dict)
    for packed in subject.sound_packed():
        value = subject.scalar(packed.input_scale)
        if value is not None:
            groups[fused_group(packed.module)][packed.input_scale] = value
            if experts_module(packed.module):
                layers[input_site(packed.module)][packed.input_scale] = value
    shared = {layer: _usual(values) for layer, values in layers.items()}
    for group, values in groups.items():
        usual = shared.get(input_site(group.replace("gate_up_proj", "gate_proj")), 0.0)
        usual = usual if usual in values.values() else _usual(values)
        odd = [name for name, value in values.items() if value != usual]
        if odd:
            told = ", ".join(f"{name.split('.')[-2]} {value:.6g}" for name, value in values.items())
            yield Fault(
                odd[0],
                f"{told}: one input, different scales",
                f"one input scale in {group.rpartition('.')[2]}",
                _AGAIN,
                blames=tuple(values),
            )
    for layer, values in layers.items():
        usual, count = Counter(values.values()).most_common(1)[0]
        for name, value in values.items() if count > len(values) / 2 else ():
            if value != usual and subject.sound(name):
                yield Fault(
                    name,
                    f"{value:.6g}, {value / usual:.3g} times that of the layer's other experts",
                    f"{usual:.6g}, which {count} of {len(values)} scales of {layer} have",
                    _AGAIN,
                )


def _usual(values: dict[str, float]) -> float:
    """The commonest value; of two, the first."""
    return Counter(values.values()).most_common(1)[0][0]


CHECK = Check("shared-input-scales", "consistent", __doc__, _find, after=("input-scales",), reads="scales")
