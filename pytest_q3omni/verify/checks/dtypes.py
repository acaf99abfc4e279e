"""Every tensor has its dtype: codes U8, block scales F8_E4M3, global and input scales F32, the rest as in the source.

vLLM takes float32 block scales without a word and reads them as something else. And config.json's own `dtype` is what
engines compute in: float16 over BF16 weights overflows, float32 takes twice the memory. That is a warning.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.verify.checks._protocol import CONFIG_JSON, Check, Fault
from pytest_q3omni.verify.comparison import widened
from pytest_q3omni.verify.subject import Subject

_FP8_SCALES = ("F32", "BF16", "F16")  # ModelOpt writes the first, compressed-tensors the model's dtype; engines cast


_COMPUTED = ("bfloat16", "float16", "float32", "half", "float", "auto")


def _find(subject: Subject) -> Iterator[Fault]:
    loose = {name for stored in subject.fp8.values() for name in (stored.weight_scale, stored.input_scale)}
    for expected in subject.expected.values():
        entry = subject.entries.get(expected.name)
        if entry is None or (expected.name in loose and entry.info.dtype in _FP8_SCALES):
            continue
        if entry.info.dtype != expected.dtype and subject.sound(expected.name):
            kept = subject.implied.get(expected.name) is expected
            if kept and widened(entry.info, expected):
                continue  # which `planned-bytes` says
            fix = "write it as the source has it" if kept else "pack this module again"
            yield Fault(expected.name, f"dtype {entry.info.dtype}", expected.dtype, fix)
    yield from _computed_in(subject)


def _computed_in(subject: Subject) -> Iterator[Fault]:
    """A warning where config.json names another dtype than most unpacked weights have."""
    config = subject.checkpoint.config
    field = "dtype" if "dtype" in config else "torch_dtype"
    said = str(config.get(field)).removeprefix("torch.")
    kept = [subject.entries[name].info.dtype for name in subject.implied if name in subject.entries]
    if said in ("float16", "float32") and 2 * kept.count("BF16") > sum(dtype != "U8" for dtype in kept):
        found = f"{said!r}, and {kept.count('BF16'):,} tensors are BF16"
        yield Fault(f"{CONFIG_JSON}.{field}", found, "'bfloat16'", "write the tensors' dtype", "warning")
    elif config.get(field) is not None and said not in _COMPUTED:
        yield Fault(f"{CONFIG_JSON}.{field}", f"{said!r:.60}", "'bfloat16': engines compute in it", "write 'bfloat16'")


CHECK = Check("dtypes", "consistent", __doc__, _find, after=("planned-bytes",))
