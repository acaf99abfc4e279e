"""What the checks see: a checkpoint's files, and what its own config and declaration say those files should be.

Two readings of the same checkpoint meet here. What the config implies (names and shapes of the BF16 model) together
with what `quantization_config` declares is the expectation; the headers are the fact. Neither is trusted: the checks
compare.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Any, Literal, NamedTuple

from pytest_q3omni.errors import Inconsistent, InvalidRequest, Q3OmniError
from pytest_q3omni.layouts import Layout, layout, layout_names, layout_of
from pytest_q3omni.omni.checkpoint import Checkpoint
from pytest_q3omni.omni.config import omni_section
from pytest_q3omni.omni.safetensors_file import Entry
from pytest_q3omni.omni.stages import Part, stage_of, stages
from pytest_q3omni.records import CalibrationRecord, Numerics, Progress, TensorInfo, no_progress
from pytest_q3omni.verify.claim import Claim
from pytest_q3omni.verify.reading import scalars

Form = Literal["packed", "plain", "fp8", "absent"]

MOST_TENSORS = 300_000
"""A config may describe at most this many tensors; the full-size model has 28,010. A config can claim 2^31 layers."""

_EXTRA = ("k_scale", "v_scale", "pre_quant_scale", "weight", "bias")


class Packed(NamedTuple):
    """A module stored packed: names of its tensors (present or not), and (out, in) as the config, or the codes, say."""

    module: str
    codes: str
    block_scale: str
    global_scale: str
    input_scale: str
    shape: tuple[int, int]


class Subject:
    """A checkpoint under judgement.

    broken: tensors' modules, files and config fields that a check has reported as errors; later checks leave them
    alone. partial: part of the weights cannot be read and no index says what was in it, so nothing counts as missing.
    record_fault: why the checkpoint's own record cannot be read; `record` is None then.
    uncompared: tensors that the faithful checks left out, since they are missing or were reported.
    notes: verdict -> what a passing check wants to say. tensor_errors: codes tensor -> (relative error, worst
    block's).
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
        self.broken: set[str] = set()
        self.partial = False
        self.uncompared = 0
        self.notes: dict[str, str] = {}
        self.tensor_errors: dict[str, tuple[float, float]] = {}
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
        section = omni_section(config, "config.json")
        described = (item for stage in stages() if stage.present(section) for item in stage.tensors(section))
        for number, (name, shape) in enumerate(islice(described, MOST_TENSORS + 1)):
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
        for name in ("packed", "expected", "claim", "_scalars"):
            self.__dict__.pop(name, None)

    # --- what was reported

    def blame(self, *names: str) -> None:
        """Mark tensors (their whole module), files or config fields as reported."""
        self.broken.update(names)
        self.broken.update(map(self.module_of, names))

    def sound(self, *names: str) -> bool:
        """True where none of the tensors, modules, files or fields was reported."""
        return not any(name in self.broken or self.module_of(name) in self.broken for name in names)

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
        linears = {tensor.name.removesuffix(".weight"): tensor for tensor in self.implied.values() if is_linear(tensor)}
        return Claim(self.known_layout.declared(self.block), linears)

    def numerics(self, packed: Packed) -> Numerics:
        """As declared; where nothing is, W4A4 if the module has an input scale."""
        declared = None if self.claim is None else self.claim.numerics(packed.module)
        return declared or ("w4a4" if packed.input_scale in self.entries else "w4a16")

    # --- what is stored

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
    def suffixes(self) -> tuple[str, str, str, str]:
        """How the layout ends the names of codes, block scale, global scale and input scale."""
        return _suffixes(self.layout)

    def module_of(self, name: str) -> str:
        """The module of a tensor, without the suffix of its role; anything else as it is."""
        for suffix in (*self.suffixes, *_EXTRA):
            if name.endswith(f".{suffix}"):
                return name[: -len(suffix) - 1]
        return name

    def named(self, module: str, shape: tuple[int, int]) -> Packed:
        """The names that `module` has when it is packed."""
        codes, block_scale, global_scale, input_scale = (f"{module}.{suffix}" for suffix in self.suffixes)
        return Packed(module, codes, block_scale, global_scale, input_scale, shape)

    def form(self, tensor: TensorInfo) -> Form:
        """How a weight of the BF16 model is stored here."""
        module = tensor.name.removesuffix(".weight")
        codes, block_scale = (self.entries.get(f"{module}.{suffix}") for suffix in self.suffixes[:2])
        if codes is None:
            return "plain" if tensor.name in self.entries else "packed" if block_scale is not None else "absent"
        half = len(tensor.shape) == 2 and codes.info.shape[-1:] == (tensor.shape[1] // 2,)
        if codes.info.dtype in ("U8", "I8") or (block_scale is not None and half):
            return "packed"
        return "fp8" if codes.info.dtype.startswith("F8_") else "plain"

    @cached_property
    def packed(self) -> Mapping[str, Packed]:
        """Module -> names, of everything stored packed; without a usable config, everything that looks packed."""
        if self.implied:
            two = (tensor for tensor in self.implied.values() if is_linear(tensor) and self.form(tensor) == "packed")
            return {packed.module: packed for packed in map(self._implied_names, two)}
        codes, block_scale = self.suffixes[:2]
        found = (name.removesuffix(f".{codes}") for name in self.entries if name.endswith(f".{codes}"))
        seen = (module for module in found if f"{module}.{block_scale}" in self.entries)
        return {module: self.named(module, _stored_shape(self.entries[f"{module}.{codes}"])) for module in seen}

    def _implied_names(self, tensor: TensorInfo) -> Packed:
        return self.named(tensor.name.removesuffix(".weight"), (tensor.shape[0], tensor.shape[1]))

    @cached_property
    def expected(self) -> Mapping[str, TensorInfo]:
        """Tensor -> what it should be, by the way each module is stored; empty without a usable config."""
        result: dict[str, TensorInfo] = {}
        for tensor in self.implied.values():
            packed = self.packed.get(tensor.name.removesuffix(".weight"))
            targets = (tensor,) if packed is None else self.layout.targets(tensor, self.numerics(packed))
            result.update((target.name, target) for target in targets)
        return result

    def sound_packed(self) -> Iterator[Packed]:
        """The packed modules that no check has reported."""
        return (packed for packed in self.packed.values() if packed.module not in self.broken)

    # --- values

    @cached_property
    def _scalars(self) -> dict[str, float]:
        names = (name for packed in self.packed.values() for name in (packed.global_scale, packed.input_scale))
        return scalars(self.checkpoint, names)

    def scalar(self, name: str) -> float | None:
        """Value of a global or input scale; None where it is missing, or no float32 with one element."""
        return self._scalars.get(name)


def is_linear(tensor: TensorInfo) -> bool:
    """A matrix that a Linear multiplies by: two dimensions, no embedding table (those are looked up)."""
    return len(tensor.shape) == 2 and tensor.name.endswith(".weight") and "embed" not in tensor.name


def part_of(module: str) -> tuple[str, Part | None]:
    """(stage, part) of a module's weight; ("", None) outside the model."""
    stage = stage_of(f"{module}.weight")
    return ("", None) if stage is None else (stage.name, stage.part(f"{module}.weight"))


def _suffixes(found: Layout) -> tuple[str, str, str, str]:
    targets = found.targets(TensorInfo("m.weight", "BF16", (16, 16)), "w4a4")
    names = [target.name.removeprefix("m.") for target in targets]
    if len(names) != 4:
        raise InvalidRequest(f"layout {found.name} has {len(names)} tensors for a W4A4 weight", expected="4")
    return names[0], names[1], names[2], names[3]


def _pairs(found: Layout, entries: Iterable[str]) -> Iterator[int]:
    """One for every tensor whose name ends like this layout's scales."""
    ends = Counter(name.rpartition(".")[2] for name in entries)
    return (ends[suffix] for suffix in _suffixes(found)[1:])


def _stored_shape(entry: Entry) -> tuple[int, int]:
    shape = entry.info.shape
    return (shape[0], 2 * shape[1]) if len(shape) == 2 else (0, 0)
