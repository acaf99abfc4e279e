"""Every layer is stored as it is declared: packed where `quantization_config` says NVFP4, unpacked everywhere else.

BF16 under an NVFP4 label is the silent non-quantization this package exists for; vLLM answers it, and a packed layer
that is not declared, with an empty AssertionError. FP8 under an NVFP4 label (ModelOpt#868: 6.12 bits per parameter)
loads.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from pytest_q3omni.omni.safetensors_file import nbytes
from pytest_q3omni.records import Scheme, TensorInfo
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.claim import Claim
from pytest_q3omni.verify.subject import Linear, Subject, part_of

_AGAIN = "pack this layer again, or correct `quantization_config`"


def _find(subject: Subject) -> Iterator[Fault]:
    claim = subject.claim
    if claim is None or not claim.usable:
        return
    yield from _families(subject, claim)
    for module, tensor, form in subject.linears:
        if form == "absent" or not subject.sound(tensor.name):
            continue
        declared = claim.scheme(module)
        if form == "packed" and declared is None:
            yield Fault(subject.place(tensor), "packed, and not declared", _undeclared(claim), _AGAIN)
        elif form == "packed" and _is_fp8(declared):
            yield Fault(subject.place(tensor), "packed as NVFP4, and declared FP8", "FP8, or NVFP4 declared", _AGAIN)
        elif form == "fp8" and declared is None:
            yield Fault(tensor.name, f"stored as {_stored(subject, tensor)}", "BF16, since it is not declared", _AGAIN)
        elif form in ("plain", "fp8") and declared is not None and not (form == "fp8" and _is_fp8(declared)):
            yield _unpacked(subject, tensor, declared)


def _families(subject: Subject, claim: Claim) -> Iterator[Fault]:
    """One fault for a whole family, such as the audio tower, that is declared packed and stored unpacked."""
    declared = [x for x in subject.linears if claim.scheme(x.module) is not None and subject.sound(x.weight.name)]
    if not any(linear.form == "plain" for linear in declared):
        return
    families: dict[tuple[str, str], list[Linear]] = defaultdict(list)
    for linear in declared:
        stage, part = part_of(linear.module)
        families[stage, "" if part is None else part.name].append(linear)
    for (stage, part_name), linears in families.items():
        if len(linears) > 1 and all(linear.form == "plain" for linear in linears):
            tensors = [linear.weight for linear in linears]
            names = tuple(tensor.name for tensor in tensors)
            schemes = {claim.scheme(name.removesuffix(".weight")) for name in names}
            yield Fault(
                names[0],
                f"stored as {_stored(subject, tensors[0])}, like all {len(tensors):,} Linears of {stage}: {part_name}",
                " or ".join(sorted(f"{_wanted(scheme)}, as declared {_said(scheme)}" for scheme in schemes if scheme)),
                _AGAIN
                if claim.by_layer
                else f"add the family to `ignore` under its full name if it shall stay; else {_AGAIN}",
                blames=names,
            )


def _is_fp8(scheme: Scheme | None) -> bool:
    return scheme in ("fp8", "fp8_dynamic")


def _wanted(scheme: Scheme) -> str:
    return "FP8: 8 bits per parameter" if _is_fp8(scheme) else "packed NVFP4: 4.5 bits per parameter"


def _said(scheme: Scheme) -> str:
    return scheme.partition("_")[0].upper()


def _undeclared(claim: Claim) -> str:
    if not claim.by_layer:
        return "BF16: the ignore list names the layer"
    listed = "config_groups' targets" if claim.declared.language == "names" else "quantized_layers"
    return f"BF16: the layer is not in {listed}"


def _unpacked(subject: Subject, tensor: TensorInfo, declared: Scheme) -> Fault:
    count = tensor.shape[0] * tensor.shape[1]
    place = subject.place(tensor)
    info = subject.entries[place].info
    stored = nbytes(info)
    if place == tensor.name and info.dtype in ("U8", "I8") and 2 * stored == count:
        module = tensor.name.removesuffix(".weight")
        found = f"codes under another layout's name: {_stored(subject, tensor)}"
        expected = f"{module}.{subject.suffixes[0]}, as {subject.layout.name} has it"
        rest = tuple(subject.sorted_entries.within(module))
        return Fault(tensor.name, found, expected, "declare the layout that the names are of, or convert", blames=rest)
    return Fault(
        place,
        f"stored as {_stored(subject, tensor)}: {8 * stored / count:.2f} bits per parameter",
        f"{_wanted(declared)}, since it is declared {_said(declared)}",
        f"silent non-quantization: {_AGAIN}",
    )


def _stored(subject: Subject, tensor: TensorInfo) -> str:
    info = subject.entries[subject.place(tensor)].info
    return f"{info.dtype} {list(info.shape)}"


CHECK = Check("declared-storage", "packed", __doc__, _find, after=("quantized-at-all", "ignore-list", "index"))
