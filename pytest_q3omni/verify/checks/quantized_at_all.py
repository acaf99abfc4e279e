"""Something is packed. A checkpoint of BF16 size is not a quantized one, whatever its name and card say.

`export_hf_vllm_fq_checkpoint` writes fake-quantized weights in their original dtype, an evaluation format; failed
calibrations and patterns that matched nothing end the same way (ModelOpt#1255, #1323): 1.00x, and no error.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.omni.safetensors_file import nbytes
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject

_TRACES = ("_amax", "_quantizer")


def _find(subject: Subject) -> Iterator[Fault]:
    codes, block_scale = subject.suffixes[:2]
    fp8 = {name for stored in subject.fp8.values() if _is_declared(subject, stored.module) for name in stored}
    ends = tuple({f".{codes}", f".{block_scale}"})
    if not subject.entries or any(_packed(name, subject, ends) for name in subject.entries.keys() - fp8):
        return
    lost = (subject.checkpoint.index or {}).keys() - subject.entries.keys()
    if any(name.endswith(f".{block_scale}") for name in lost):
        return  # in a shard that cannot be read
    total = sum(nbytes(entry.info) for entry in subject.entries.values())
    traces = [name for name in subject.entries if any(trace in name for trace in _TRACES)]
    found = f"none of {len(subject.entries):,} tensors is packed: {total:,} bytes"
    found += f"; {len(subject.fp8):,} Linears are FP8" if subject.fp8 else ""
    if traces:
        found += f"; {traces[0]} is left of a fake-quantized export"
    yield Fault(
        subject.checkpoint.files[0].name,
        found,
        "weights in 4 bits: U8 codes with F8_E4M3 block scales",
        "pack it: `q3omni quantize SRC OUT --recipe R`",
        blames=(*_declared(subject), *traces),
    )


def _is_declared(subject: Subject, module: str) -> bool:
    """True where FP8 is what the config says: else it is a layer under a wrong label, which another check names."""
    return subject.claim is not None and subject.claim.scheme(module) in ("fp8", "fp8_dynamic")


def _declared(subject: Subject) -> Iterator[str]:
    """The layers that would be reported one by one as declared and not packed."""
    claim = subject.claim
    if claim is not None and claim.usable:
        yield from (name for name in subject.implied if claim.scheme(name.removesuffix(".weight")) is not None)


def _packed(name: str, subject: Subject, ends: tuple[str, ...]) -> bool:
    """True for packed codes (by dtype) and for block scales: either shows that something was packed."""
    return name.endswith(ends) and subject.entries[name].info.dtype in ("U8", "I8", "F8_E4M3", "F8_E5M2")


CHECK = Check("quantized-at-all", "packed", __doc__, _find, after=("declaration",))
