"""`quantization_config` is one that engines understand: a known layout, known algorithms, blocks of 16.

vLLM takes any `quant_method` that begins with `modelopt`, and fails later, with an empty AssertionError, on what it
finds inside. Blocks of 32 (ModelOpt's NVFP4_MLP_WEIGHT_ONLY_CFG) pack and export without a word, and no kernel takes
them.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.layouts import layout_names
from pytest_q3omni.verify.checks._protocol import CONFIG_JSON, Check, Fault
from pytest_q3omni.verify.claim import MOST_IGNORED, MOST_PATTERNS
from pytest_q3omni.verify.subject import Subject

_PLACE = f"{CONFIG_JSON}.quantization_config"


def _find(subject: Subject) -> Iterator[Fault]:
    raw = subject.checkpoint.config.get("quantization_config")
    if subject.block is None:
        if raw is not None:
            yield Fault(_PLACE, f"{raw!r:.60}", "an object", "write the block again: `q3omni quantize` does")
        elif subject.packed:
            yield Fault(
                _PLACE,
                f"none, but {len(subject.packed)} modules are packed",
                "a block that declares them",
                "without it engines load the packed bytes as weights, or fail: write it from the tensors",
            )
        return
    if subject.known_layout is None:
        yield Fault(
            f"{_PLACE}.quant_method",
            f"{subject.block.get('quant_method')!r:.60}",
            f"a layout that the judge knows: {', '.join(layout_names())}",
            "export with ModelOpt or `q3omni quantize`; other formats cannot be judged",
        )
        return
    for where, found, expected, fix in subject.known_layout.declared(subject.block).faults:
        yield Fault(f"{_PLACE}.{where}", found, expected, fix, blames=_modules(where, subject))
    if subject.claim is not None and not subject.claim.short:
        yield Fault(
            f"{_PLACE}.ignore",
            f"{len(subject.claim.declared.ignore):,} entries",
            f"at most {MOST_IGNORED:,}, {MOST_PATTERNS:,} of them with wildcards inside",
            "name whole families with a pattern, such as `thinker.visual*`",
        )


def _modules(where: str, subject: Subject) -> tuple[str, ...]:
    """The packed modules of a faulty entry `quantized_layers.MODULE.field`: their storage is not judged by it."""
    if not where.startswith("quantized_layers."):
        return ()
    unit = where.removeprefix("quantized_layers.").rpartition(".")[0]
    return tuple(module for module in subject.packed if module == unit or module.startswith(f"{unit}."))


CHECK = Check("declaration", "consistent", __doc__, _find, after=("model-config",))
