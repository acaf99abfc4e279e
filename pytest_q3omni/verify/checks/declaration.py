"""`quantization_config` is one that engines understand: a known layout, known algorithms, blocks of 16.

vLLM takes any `quant_method` that begins with `modelopt`, and fails later, with an empty AssertionError, on what it
finds inside. Blocks of 32 (ModelOpt's NVFP4_MLP_WEIGHT_ONLY_CFG) pack and export without a word, and no kernel takes
them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pytest_q3omni.layouts import layout, layout_names, suffixes
from pytest_q3omni.omni.naming import SortedNames
from pytest_q3omni.verify.checks._protocol import CONFIG_JSON, Check, Fault
from pytest_q3omni.verify.claim import MOST_IGNORED, MOST_PATTERNS
from pytest_q3omni.verify.subject import Subject

_PLACE = f"{CONFIG_JSON}.quantization_config"


def _find(subject: Subject) -> Iterator[Fault]:
    yield from _nested(subject)
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
    misnamed = _misnamed(subject)
    if misnamed is not None:
        yield misnamed
        return
    packed = SortedNames(subject.packed)
    for where, found, expected, fix in subject.known_layout.declared(subject.block).faults:
        yield Fault(f"{_PLACE}.{where}", found, expected, fix, blames=_modules(where, packed))
    if subject.claim is not None and not subject.claim.short:
        entry, why = subject.claim.refused
        if entry:
            listed = entry in subject.claim.declared.ignore
            place = f"{_PLACE}.{'ignore' if listed else 'config_groups'} '{entry:.80}'"
            fix = "name the modules, or write an expression without nested repetition"
            yield Fault(place, f"no usable regular expression: {why:.80}", "one that matches names at once", fix)
            return
        yield Fault(
            f"{_PLACE}.ignore",
            f"{len(subject.claim.declared.ignore):,} entries",
            f"at most {MOST_IGNORED:,}, {MOST_PATTERNS:,} of them with wildcards inside and not too long",
            "name whole families with a pattern, such as `thinker.visual*`",
        )


def _nested(subject: Subject) -> Iterator[Fault]:
    """Warnings for second blocks within config.json that say something else: some loaders read a part's own config."""
    config = subject.checkpoint.config
    thinker = config.get("thinker_config")
    parts = {"thinker_config": thinker, "talker_config": config.get("talker_config")}
    parts["text_config"] = config.get("text_config")
    parts["thinker_config.text_config"] = thinker.get("text_config") if isinstance(thinker, Mapping) else None
    whole = config.get("quantization_config")
    for place, part in {"": config, **parts}.items():
        for key in ("quantization_config", "compression_config"):
            block = part.get(key) if isinstance(part, Mapping) and (place or key != "quantization_config") else None
            if block is not None and block != whole:
                where = ".".join(filter(None, (CONFIG_JSON, place, key)))
                found = f"another block than {_PLACE}: {block!r:.60}"
                yield Fault(where, found, "one block", f"take {where.removeprefix(f'{CONFIG_JSON}.')} out", "warning")


def _misnamed(subject: Subject) -> Fault | None:
    """A fault where every packed layer has the names of another layout than the declared one."""
    declared = subject.layout
    own = f".{suffixes(declared).global_scale}"
    if any(name.endswith(own) for name in subject.entries):
        return None
    for other in map(layout, layout_names()):
        end = f".{suffixes(other).global_scale}"
        names = [name for name in subject.entries if name.endswith(end)]
        if names and other.name != declared.name:
            modules = {name.removesuffix(end) for name in names}
            blamed = [*modules, *(name for name in subject.entries if name.rpartition(".")[0] in modules)]
            found = f"{declared.name}'s, and all {len(modules):,} packed layers have the names of {other.name}"
            fix = f"declare {other.name}, or convert: global scales are turned over between the two"
            return Fault(f"{_PLACE}.quant_method", found, f"{other.name}'s block", fix, blames=tuple(blamed))
    return None


def _modules(where: str, packed: SortedNames) -> tuple[str, ...]:
    """The packed modules of a faulty entry `quantized_layers.MODULE.field`: their storage is not judged by it."""
    if not where.startswith("quantized_layers."):
        return ()
    unit = where.removeprefix("quantized_layers.").rpartition(".")[0]
    return (unit, *packed.within(unit))


CHECK = Check("declaration", "consistent", __doc__, _find, after=("model-config",))
