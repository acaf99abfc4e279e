"""Calibration reached every expert that is packed W4A4.

All experts of a layer share their input scale, so an expert without a token still has one, from the others' inputs:
the weights tell nothing, only the counts do. No token at all is an error; an expert that no audio (or image) token
reached is a warning, for its scale was made for other inputs.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.omni.naming import experts_module
from pytest_q3omni.records import CalibrationRecord
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject

_MORE = "calibrate with more, or more varied, conversations"


def _find(subject: Subject) -> Iterator[Fault]:
    if subject.record is None:
        return
    layers: dict[str, set[int]] = {}
    for packed in subject.sound_packed():
        layer = experts_module(packed.module)
        if layer and subject.numerics(packed) == "w4a4":
            layers.setdefault(layer, set()).add(int(packed.module.removeprefix(f"{layer}.").partition(".")[0]))
    for layer, experts in layers.items():
        yield from _layer(subject.record, layer, sorted(experts))


def _layer(record: CalibrationRecord, layer: str, experts: list[int]) -> Iterator[Fault]:
    counts = {modality: layers[layer] for modality, layers in record.expert_tokens.items() if layer in layers}
    known = min(map(len, counts.values()), default=0)
    if known <= experts[-1]:
        yield Fault(
            layer,
            f"the record counts tokens for {known} experts",
            f"{experts[-1] + 1} experts",
            "calibrate this checkpoint's source",
            blames=tuple(f"{layer}.{expert}" for expert in experts),
        )
        return
    unseen = {expert for expert in experts if not any(tokens[expert] > 0 for tokens in counts.values())}
    for expert in sorted(unseen):
        yield Fault(f"{layer}.{expert}", "no calibration token reached this expert", "at least 1", _MORE)
    for modality, tokens in counts.items():
        missed = [expert for expert in experts if tokens[expert] <= 0 and expert not in unseen]
        if missed and record.samples.get(modality):
            told = ", ".join(map(str, missed[:20])) + (", ..." if len(missed) > 20 else "")
            yield Fault(
                layer,
                f"{len(missed)} of {len(experts)} experts saw no {modality}: {told}",
                f"{modality} tokens in every expert",
                _MORE,
                "warning",
            )


CHECK = Check("expert-coverage", "calibrated", __doc__, _find, after=("recorded-input-scales",), needs="record")
