"""Every layer is stored as it is declared: packed where `quantization_config` says NVFP4, unpacked everywhere else.

BF16 under an NVFP4 label is the silent non-quantization this package exists for; vLLM answers it, and a packed layer
that is not declared, with an empty AssertionError. FP8 under an NVFP4 label (ModelOpt#868: 6.12 bits per parameter)
loads.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from pytest_q3omni.omni.safetensors_file import nbytes
from pytest_q3omni.records import TensorInfo
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.claim import Claim
from pytest_q3omni.verify.subject import Subject, is_linear, part_of

_AGAIN = "pack this layer again, or correct `quantization_config`"


def _find(subject: Subject) -> Iterator[Fault]:
    claim = subject.claim
    if claim is None or not claim.usable:
        return
    yield from _families(subject, claim)
    for tensor in subject.implied.values():
        module = tensor.name.removesuffix(".weight")
        if not is_linear(tensor) or not subject.sound(tensor.name):
            continue
        form, declared = subject.form(tensor), claim.numerics(module)
        if form == "packed" and declared is None:
            yield Fault(tensor.name, "packed, and not declared", _undeclared(claim), _AGAIN)
        elif form in ("plain", "fp8") and declared is not None:
            yield _unpacked(subject, tensor, declared.upper())
        elif form == "fp8":
            yield Fault(tensor.name, f"stored as {_stored(subject, tensor)}", "BF16, since it is not declared", _AGAIN)


def _families(subject: Subject, claim: Claim) -> Iterator[Fault]:
    """One fault for a whole family, such as the audio tower, that is declared packed and stored unpacked."""
    families: dict[tuple[str, str], list[TensorInfo]] = defaultdict(list)
    for tensor in subject.implied.values():
        module = tensor.name.removesuffix(".weight")
        if is_linear(tensor) and subject.sound(tensor.name) and claim.numerics(module) is not None:
            stage, part = part_of(module)
            families[stage, "" if part is None else part.name].append(tensor)
    for (stage, part_name), tensors in families.items():
        if len(tensors) > 1 and all(subject.form(tensor) == "plain" for tensor in tensors):
            names = tuple(tensor.name for tensor in tensors)
            yield Fault(
                names[0],
                f"stored as {_stored(subject, tensors[0])}, like all {len(tensors):,} Linears of {stage}: {part_name}",
                "packed NVFP4, as declared: 4.5 bits per parameter",
                _AGAIN
                if claim.by_layer
                else f"add the family to `ignore` under its full name if it shall stay; else {_AGAIN}",
                blames=names,
            )


def _undeclared(claim: Claim) -> str:
    return "BF16: the layer is not in quantized_layers" if claim.by_layer else "BF16: the ignore list names the layer"


def _unpacked(subject: Subject, tensor: TensorInfo, declared: str) -> Fault:
    count = tensor.shape[0] * tensor.shape[1]
    stored = nbytes(subject.entries[tensor.name].info)
    return Fault(
        tensor.name,
        f"stored as {_stored(subject, tensor)}: {8 * stored / count:.2f} bits per parameter",
        f"packed NVFP4, declared {declared}: 4.5 bits per parameter",
        f"silent non-quantization: {_AGAIN}",
    )


def _stored(subject: Subject, tensor: TensorInfo) -> str:
    info = subject.entries[tensor.name].info
    return f"{info.dtype} {list(info.shape)}"


CHECK = Check("declared-storage", "packed", __doc__, _find, after=("quantized-at-all", "ignore-list", "index"))
