"""What the checks see: a checkpoint's files, and what its own config and declaration say those files should be.

Two readings of the same checkpoint meet here. What the config implies (names and shapes of the BF16 model) together
with what `quantization_config` declares is the expectation; the headers are the fact. Neither is trusted: the checks
compare.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Any, Literal, NamedTuple

from pytest_q3omni.engines.engine_report import EngineReport
from pytest_q3omni.errors import Inconsistent, Q3OmniError
from pytest_q3omni.layouts import Layout, Suffixes, layout, layout_names, layout_of, suffixes
from pytest_q3omni.omni.checkpoint import Checkpoint
from pytest_q3omni.omni.config import MODEL_TYPE, THINKER_TYPE
from pytest_q3omni.omni.naming import SortedNames
from pytest_q3omni.omni.safetensors_file import Entry
from pytest_q3omni.omni.stages import Part, implied_tensors, stage_of
from pytest_q3omni.records import CalibrationRecord, Numerics, Progress, Scheme, TensorInfo, no_progress
from pytest_q3omni.verify.claim import Claim
from pytest_q3omni.verify.reading import scalars

Form = Literal["packed", "plain", "fp8", "absent"]

MOST_TENSORS = 300_000
"""A config may describe at most this many tensors; the full-size model has 28,010. A config can claim 2^31 layers."""

_EXTRA = ("k_scale", "v_scale", "pre_quant_scale", "weight", "weight_scale", "input_scale", "bias")


class Packed(NamedTuple):
    """A module stored packed: names of its tensors (present or not), and (out, in) as the config, or the codes, say."""

    module: str
    codes: str
    block_scale: str
    global_scale: str
    input_scale: str
    shape: tuple[int, int]


class Linear(NamedTuple):
    """A matrix that the config implies, and how it is stored; `weight` is its tensor in the BF16 model."""

    module: str
    weight: TensorInfo
    form: Form


class FP8(NamedTuple):
    """A module stored as FP8: names of its tensors (present or not), and (out, in). `input_scale` is "" where inputs
    are scaled while the model runs."""

    module: str
    weight: str
    weight_scale: str
    input_scale: str
    shape: tuple[int, int]


class Subject:
    """A checkpoint under judgement.

    broken: tensors' modules, files and config fields that a check has reported as errors; later checks leave them
    alone. partial: part of the weights cannot be read and no index says what was in it, so nothing counts as missing.
    record_fault: why the checkpoint's own record cannot be read; `record` is None then.
    uncompared: tensors that the faithful checks left out, since they are missing or were reported.
    engine: what an engine's loader made of the checkpoint, None where none was asked; unasked: why.
    notes: verdict -> what a passing check wants to say. unread: verdict -> checks that need weights which stay on a
    hub. tensor_errors: codes tensor -> (relative error, worst
    block's). largest_scales: block scales that were read to the end -> their largest code.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        source: Checkpoint | None = None,
        record: CalibrationRecord | None = None,
        record_fault: Q3OmniError | None = None,
        progress: Progress = no_progress,
    ) -> None:
        self.checkpoint, self.source, self.record, self.progress = checkpoint, source, record, progress
        self.record_fault = record_fault
        self.engine: EngineReport | None = None
        self.unasked = ""
        self.broken: set[str] = set()
        self.partial = False
        self.uncompared = 0
        self.notes: dict[str, str] = {}
        self.unread: dict[str, list[str]] = {}
        self.tensor_errors: dict[str, tuple[float, float]] = {}
        self.largest_scales: dict[str, int] = {}
        self.config_fault: Inconsistent | None = None
        self.implied: Mapping[str, TensorInfo] = {}
        self.expect(checkpoint.config)

    def expect(self, config: Mapping[str, Any]) -> None:
        """Take the tensors that `config` implies as the expectation: the checkpoint's own, or its source's if that is
        wrong."""
        try:
            self.implied, self.config_fault = {tensor.name: tensor for tensor in self._imply(config)}, None
        except Inconsistent as error:
            self.config_fault, self.implied = error, {}
        self._forget()

    def drop_source(self) -> None:
        """Judge on without the source, which is another model's."""
        self.source = None
        self.expect(self.checkpoint.config)

    def _imply(self, config: Mapping[str, Any]) -> Iterator[TensorInfo]:
        for number, (name, shape) in enumerate(islice(implied_tensors(config), MOST_TENSORS + 1)):
            if number == MOST_TENSORS:
                raise Inconsistent(
                    f"describes more than {MOST_TENSORS:,} tensors",
                    where="config.json",
                    expected="28,010, as full size",
                    fix="take config.json from the original model",
                )
            known = None if self.source is None else self.source.entries.get(name)
            yield TensorInfo(name, "BF16" if known is None else known.info.dtype, shape)

    def _forget(self) -> None:
        for name in ("linears", "packed", "fp8", "expected", "claim", "_scalars"):
            self.__dict__.pop(name, None)

    # --- what was reported

    def blame(self, *names: str) -> None:
        """Mark tensors (their whole module), files or config fields as reported."""
        self.broken.update(names)
        self.broken.update(map(self.module_of, names))

    def sound(self, *names: str) -> bool:
        """True where none of the tensors, modules, files or fields was reported."""
        return not self.broken or not any(name in self.broken or self.module_of(name) in self.broken for name in names)

    def note(self, verdict: str, text: str) -> None:
        """Something to say beside a verdict."""
        self.notes[verdict] = f"{self.notes[verdict]}; {text}" if verdict in self.notes else text

    # --- what is declared

    @cached_property
    def block(self) -> Mapping[str, Any] | None:
        """`quantization_config`, None where there is none or it is not an object."""
        block = self.checkpoint.config.get("quantization_config")
        return block if isinstance(block, Mapping) else None

    @cached_property
    def known_layout(self) -> Layout | None:
        """The layout that wrote `block`, None where no layout knows it."""
        return None if self.block is None else layout_of(self.block)

    @cached_property
    def claim(self) -> Claim | None:
        """What `quantization_config` claims, None where it cannot be understood."""
        if self.block is None or self.known_layout is None:
            return None
        linears = {linear.module: linear.weight for linear in self.linears}
        return Claim(self.known_layout.declared(self.block), linears)

    @property
    def unknown_model(self) -> str:
        """The model type where it is one whose tensors nobody here knows, "" otherwise. A Qwen3-Omni under a wrong type
        is none: its tensors have the thinker's prefix."""
        kind = self.checkpoint.config.get("model_type")
        if self.config_fault is None or not isinstance(kind, str) or kind in (MODEL_TYPE, THINKER_TYPE):
            return ""
        other_type = "model_type is" in self.config_fault.found
        return kind[:60] if other_type and not any(name.startswith("thinker.") for name in self.entries) else ""

    @cached_property
    def omni(self) -> bool:
        """True for Qwen3-Omni and its thinker: a model with pictures, sound and ChatML, and all the files for it."""
        kind = self.checkpoint.config.get("model_type")
        return kind in (MODEL_TYPE, THINKER_TYPE) or any(name.startswith("thinker.") for name in self.entries)

    def numerics(self, packed: Packed) -> Numerics:
        """As declared; where nothing is, W4A4 if the module has an input scale."""
        declared = None if self.claim is None else self.claim.scheme(packed.module)
        if declared in ("w4a4", "w4a16"):
            return declared
        return "w4a4" if packed.input_scale in self.entries else "w4a16"

    # --- what is stored

    @cached_property
    def sorted_entries(self) -> SortedNames:
        """The stored tensors' names, asked for those of a module."""
        return SortedNames(self.entries)

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Tensor -> header entry, of all readable shards."""
        return self.checkpoint.entries

    @cached_property
    def layout(self) -> Layout:
        """The layout that names the packed tensors: the declared one, else the one most names fit."""
        if self.known_layout is not None:
            return self.known_layout
        return max(map(layout, layout_names()), key=lambda found: sum(_pairs(found, self.entries)))

    @cached_property
    def suffixes(self) -> Suffixes:
        """How the layout ends the names of codes, block scale, global scale and input scale."""
        return suffixes(self.layout)

    def module_of(self, name: str) -> str:
        """The module of a tensor, without the suffix of its role; anything else as it is."""
        module, _, suffix = name.rpartition(".")
        return module if suffix in self._ends else name

    @cached_property
    def _ends(self) -> frozenset[str]:
        return frozenset((*self.suffixes, *_EXTRA))

    def named(self, module: str, shape: tuple[int, int]) -> Packed:
        """The names that `module` has when it is packed."""
        codes, block_scale, global_scale, input_scale = (f"{module}.{suffix}" for suffix in self.suffixes)
        return Packed(module, codes, block_scale, global_scale, input_scale, shape)

    @cached_property
    def linears(self) -> tuple[Linear, ...]:
        """Every matrix of the BF16 model that a Linear multiplies by."""
        named = ((t.name.removesuffix(".weight"), t) for t in self.implied.values() if is_linear(t))
        return tuple(Linear(module, tensor, self._form(module, tensor)) for module, tensor in named)

    def _form(self, module: str, tensor: TensorInfo) -> Form:
        codes = self.entries.get(f"{module}.{self.suffixes.codes}")
        block_scale = self.entries.get(f"{module}.{self.suffixes.block_scale}")
        if codes is None:
            whole = self.entries.get(tensor.name)
            if whole is None:
                return "absent" if block_scale is None else "packed"
            return "fp8" if whole.info.dtype.startswith("F8_") else "plain"
        half = len(tensor.shape) == 2 and codes.info.shape[-1:] == (tensor.shape[1] // 2,)
        if codes.info.dtype in ("U8", "I8") or (block_scale is not None and half):
            return "packed"
        return "fp8" if codes.info.dtype.startswith("F8_") else "plain"

    def place(self, tensor: TensorInfo) -> str:
        """The stored tensor that stands for a weight of the BF16 model: its codes where it is packed."""
        codes = f"{tensor.name.removesuffix('.weight')}.{self.suffixes[0]}"
        return codes if codes in self.entries else tensor.name

    @cached_property
    def packed(self) -> Mapping[str, Packed]:
        """Module -> names, of everything stored packed; without a usable config, everything that looks packed."""
        if self.implied:
            return {x.module: self.named(x.module, _matrix(x.weight)) for x in self.linears if x.form == "packed"}
        codes, block_scale = self.suffixes[:2]
        found = (name.removesuffix(f".{codes}") for name in self.entries if name.endswith(f".{codes}"))
        seen = (module for module in found if f"{module}.{block_scale}" in self.entries)
        return {module: self.named(module, _stored_shape(self.entries[f"{module}.{codes}"])) for module in seen}

    @cached_property
    def fp8(self) -> Mapping[str, FP8]:
        """Module -> names, of every Linear stored as FP8."""
        return {linear.module: self._fp8_names(linear) for linear in self.linears if linear.form == "fp8"}

    def _fp8_names(self, linear: Linear) -> FP8:
        module, scale = linear.module, f"{linear.module}.weight_scale"
        declared = None if self.claim is None else self.claim.scheme(module)
        dynamic = declared == "fp8_dynamic"
        if declared not in ("fp8", "fp8_dynamic") and scale in self.entries:
            dynamic = math.prod(self.entries[scale].info.shape) != 1
        input_scale = "" if dynamic else f"{module}.input_scale"
        return FP8(module, linear.weight.name, scale, input_scale, _matrix(linear.weight))

    @cached_property
    def expected(self) -> Mapping[str, TensorInfo]:
        """Tensor -> what it should be, by the way each module is stored; empty without a usable config."""
        result: dict[str, TensorInfo] = {}
        for tensor in self.implied.values():
            scheme = self._stored_scheme(tensor.name.removesuffix(".weight"))
            if scheme is None:
                result[tensor.name] = tensor
                continue
            for target in self.layout.targets(tensor, scheme):
                result[target.name] = target
        return result

    def _stored_scheme(self, module: str) -> Scheme | None:
        packed, fp8 = self.packed.get(module), self.fp8.get(module)
        if packed is not None:
            return "w4a4" if self.numerics(packed) == "w4a4" else "w4a16"
        return None if fp8 is None else "fp8" if fp8.input_scale else "fp8_dynamic"

    def sound_packed(self) -> Iterator[Packed]:
        """The packed modules that no check has reported."""
        return (packed for packed in self.packed.values() if packed.module not in self.broken)

    # --- values

    @cached_property
    def _scalars(self) -> dict[str, float]:
        names = (name for packed in self.packed.values() for name in (packed.global_scale, packed.input_scale))
        return scalars(self.checkpoint, names)

    def scalar(self, name: str) -> float | None:
        """Value of a global or input scale as stored; None where it is missing, or no float32 with one element."""
        return self._scalars.get(name)

    def global_scale(self, packed: Packed) -> float | None:
        """What a module's block scales are multiplied by, amax / 2688, however the layout stores it."""
        return self._multiplier(packed.global_scale)

    def input_scale(self, packed: Packed) -> float | None:
        """The input's amax / 2688, however the layout stores it."""
        return self._multiplier(packed.input_scale)

    def _multiplier(self, name: str) -> float | None:
        value = self.scalar(name)
        if value is None or not self.layout.inverted:
            return value
        return 1 / value if value else math.inf


def is_linear(tensor: TensorInfo) -> bool:
    """A matrix that a Linear multiplies by: two dimensions, no embedding table (those are looked up)."""
    return len(tensor.shape) == 2 and tensor.name.endswith(".weight") and "embed" not in tensor.name


def part_of(module: str) -> tuple[str, Part | None]:
    """(stage, part) of a module's weight; ("", None) outside the model."""
    stage = stage_of(f"{module}.weight")
    return ("", None) if stage is None else (stage.name, stage.part(f"{module}.weight"))


def _pairs(found: Layout, entries: Iterable[str]) -> Iterator[int]:
    """One for every tensor whose name ends like this layout's scales."""
    ends = Counter(name.rpartition(".")[2] for name in entries)
    return (ends[suffix] for suffix in suffixes(found)[1:])


def _matrix(tensor: TensorInfo) -> tuple[int, int]:
    return tensor.shape[0], tensor.shape[1]


def _stored_shape(entry: Entry) -> tuple[int, int]:
    shape = entry.info.shape
    return (shape[0], 2 * shape[1]) if len(shape) == 2 else (0, 0)
