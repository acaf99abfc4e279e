"""Every tensor that the config implies is there, and no other.

vLLM accepts without a word that an expert, a norm, lm_head or the whole talker is missing; an unknown name stops it
(`There is no module or parameter named ...`). A KV cache declared quantized without its scales is a warning: engines
take 1 for them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator

from pytest_q3omni.omni.naming import is_fused_expert_file
from pytest_q3omni.omni.stages import stage_of
from pytest_q3omni.verify.checks._protocol import CONFIG_JSON, Check, Fault
from pytest_q3omni.verify.claim import parents
from pytest_q3omni.verify.subject import Subject, is_linear

_KV = (".k_scale", ".v_scale")
_EXPECTED, _REMOVE = "only tensors that the config implies", "take it out, or correct config.json"
_RESTORE = "copy it from the source and pack again, or correct config.json"


def _find(subject: Subject) -> Iterator[Fault]:
    if not subject.expected:
        return
    if _declares_kv(subject) and not subject.partial and not any(name.endswith(_KV) for name in subject.entries):
        place, found = f"{CONFIG_JSON}.quantization_config", "declares a quantized KV cache, and no scale is stored"
        fix = "remove the KV cache's declaration, or calibrate its scales"
        yield Fault(place, found, "k_scale and v_scale tensors", fix, "warning")
    yield from _packed_tables(subject)
    missing = [] if subject.partial else [name for name in subject.expected if _absent(subject, name)]
    unexpected = [name for name in subject.entries if _unexpected(subject, name)]
    thinker = [name for name in missing if name.startswith("thinker.")]
    renamed = [name for name in thinker if name.removeprefix("thinker.") in subject.entries]
    if len(renamed) > len(thinker) / 2:
        yield _without_prefix(renamed, (*missing, *unexpected))
        return
    yield from _missing(subject, missing)
    if unexpected:
        yield from _surplus(subject, unexpected)


def _packed_tables(subject: Subject) -> Iterator[Fault]:
    """Embedding tables that are packed: llm-compressor's `model_free_ptq` does so, unless they are ignored."""
    ends = subject.suffixes
    for tensor in subject.implied.values():
        module = tensor.name.removesuffix(".weight")
        if len(tensor.shape) == 2 and not is_linear(tensor) and f"{module}.{ends.block_scale}" in subject.entries:
            yield Fault(
                f"{module}.{ends.codes}",
                "an embedding table is packed; it is looked up, not multiplied, and no engine unpacks it",
                f"{tensor.name}: {tensor.dtype} {list(tensor.shape)}",
                "put the source's table back, and name it in the ignore list",
                blames=(tensor.name, *(f"{module}.{end}" for end in ends)),
            )


def _absent(subject: Subject, name: str) -> bool:
    return name not in subject.entries and subject.sound(name)


def _unexpected(subject: Subject, name: str) -> bool:
    if name in subject.expected or not subject.sound(name):
        return False
    packed = subject.packed.get(subject.module_of(name))
    optional = packed is not None and name == packed.input_scale  # legal beside weight-only numerics, and unused
    return not (optional or (name.endswith(_KV) and _in_attention(subject, name)))


def _in_attention(subject: Subject, name: str) -> bool:
    """True for `self_attn.k_scale` and `self_attn.k_proj.k_scale` (and the values'), which `kv-cache-scales` judges."""
    module, _, end = name.rpartition(".")
    projection = f"{end[0]}_proj"
    attention = module.removesuffix(f".{projection}")
    return f"{attention}.{projection}.weight" in subject.implied


def _declares_kv(subject: Subject) -> bool:
    return subject.claim is not None and subject.claim.declared.kv_cache


def _without_prefix(renamed: list[str], blamed: Iterable[str]) -> Fault:
    first = renamed[0].removeprefix("thinker.")
    return Fault(
        first,
        f"{len(renamed):,} of the thinker's tensors lack the prefix 'thinker.'",
        renamed[0],
        "a thinker exported alone: rename its tensors and add the other stages",
        blames=tuple(blamed),
    )


def _missing(subject: Subject, missing: list[str]) -> Iterator[Fault]:
    """One fault for a stage of which nothing is there, one for each module otherwise."""
    by_stage: dict[str, list[str]] = defaultdict(list)
    for name in missing:
        stage = stage_of(name)
        by_stage[stage.name if stage else ""].append(name)
    for place, names in by_stage.items():
        if not any(_in_stage(name, place) for name in subject.entries):
            yield Fault(
                place,
                f"all {len(names):,} tensors of the stage are missing",
                "every stage that the config has",
                "add the stage's BF16 tensors; for a thinker alone say `enable_audio_output: false`",
                blames=tuple(names),
            )
            continue
        told: set[str] = set()
        for name in names:
            if (module := subject.module_of(name)) not in told:
                told.add(module)
                yield Fault(name, "missing", _wanted(subject, name), _RESTORE)


def _wanted(subject: Subject, name: str) -> str:
    """What should be there; where nothing of a packed module is, the module."""
    expected, module = subject.expected[name], subject.module_of(name)
    declared = None if subject.claim is None or module in subject.packed else subject.claim.scheme(module)
    if declared is None:
        return f"{expected.dtype} {list(expected.shape)}"
    return f"a weight {list(expected.shape)}, packed and with its scales (declared {declared.upper()})"


def _in_stage(name: str, stage: str) -> bool:
    found = stage_of(name)
    return found is not None and found.name == stage


def _surplus(subject: Subject, names: list[str]) -> Iterator[Fault]:
    """One fault for a layer or an expert that the config does not have, one for each tensor elsewhere."""
    known = {parent for name in subject.expected for parent in parents(name)}
    families: dict[str, list[str]] = defaultdict(list)
    for name in names:
        families[_unknown_family(name, known)].append(name)
    for family, members in families.items():
        if len(members) == 1 or "." not in family or subject.module_of(members[0]) == family:
            yield from map(_unknown, members)
        else:
            yield Fault(
                members[0],
                f"one of {len(members):,} tensors of {family}, which a model of this config does not have",
                _EXPECTED,
                _REMOVE,
                blames=tuple(members),
            )


def _unknown_family(name: str, known: Container[str]) -> str:
    """The first part of a name, read from its beginning, that no tensor of the model lies in."""
    end = name.find(".")
    while end >= 0 and name[:end] in known:
        end = name.find(".", end + 1)
    return name if end < 0 else name[:end]


def _unknown(name: str) -> Fault:
    found, fix = "no such tensor in a model of this config", _REMOVE
    if is_fused_expert_file(name):
        found, fix = (
            "all experts of a layer in one 3-D tensor",
            "save with save_pretrained, which writes one per expert",
        )
    elif name.endswith(".pre_quant_scale"):
        found, fix = "an AWQ scale, which vLLM does not know", "fold the scales into the weights before packing"
    elif "_amax" in name or "_quantizer" in name:
        found, fix = "state of a fake quantizer", "export packed weights, not the quantizers"
    return Fault(name, found, _EXPECTED, fix)


CHECK = Check("names", "consistent", __doc__, _find, after=("scales-present",))
