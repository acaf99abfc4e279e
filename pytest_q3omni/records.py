"""Plain records that the rooms of this package hand to each other. No behaviour beyond derived sums.

Names of dtypes are those of safetensors headers: BF16, F32, F8_E4M3, U8. Sizes are bytes unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Numerics = Literal["bf16", "w4a16", "w4a4"]
Severity = Literal["error", "warning"]
State = Literal["pass", "fail", "not checked"]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One entry of a safetensors header: name, dtype (safetensors' spelling) and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """What becomes of one source tensor.

    action: "keep" copies the bytes; "nvfp4" packs a BF16 (out, in) weight.
    group: fused group whose members share one global scale (q/k/v, gate/up); a module alone is its own group.
    input_site: the calibration record's key for the input amax; "" where the numerics need none.
    """

    source: TensorInfo
    stage: str
    part: str
    action: Literal["keep", "nvfp4"]
    targets: tuple[TensorInfo, ...]
    group: str = ""
    input_site: str = ""

    @property
    def module(self) -> str:
        """The module's name: the tensor's without `.weight`."""
        return self.source.name.removesuffix(".weight")


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """One output file: its tensors in file order and its exact size, header included."""

    file: str
    tensors: tuple[TensorInfo, ...]
    header_bytes: int
    data_bytes: int

    @property
    def file_bytes(self) -> int:
        return self.header_bytes + self.data_bytes


@dataclass(frozen=True, slots=True)
class StageSize:
    """Parameters and tensor bytes of one stage; `packed_parameters` of them are stored as NVFP4."""

    parameters: int
    source_bytes: int
    tensor_bytes: int
    packed_parameters: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What one recipe makes of one checkpoint: every tensor, every shard, every byte.

    `fingerprint` is the sha256 over the source's config and headers: same fingerprint, recipe and size, same plan.
    """

    recipe: str
    numerics: Numerics
    layout: str
    fingerprint: str
    max_shard_bytes: int
    tensors: tuple[TensorPlan, ...]
    shards: tuple[ShardPlan, ...]
    stages: Mapping[str, StageSize]

    @property
    def parameters(self) -> int:
        return sum(stage.parameters for stage in self.stages.values())

    @property
    def source_bytes(self) -> int:
        return sum(stage.source_bytes for stage in self.stages.values())

    @property
    def tensor_bytes(self) -> int:
        return sum(stage.tensor_bytes for stage in self.stages.values())

    @property
    def file_bytes(self) -> int:
        """All shards with their headers, without the index."""
        return sum(shard.file_bytes for shard in self.shards)

    @property
    def quantized_fraction(self) -> float:
        """Parameters stored as packed NVFP4 / all parameters."""
        return sum(stage.packed_parameters for stage in self.stages.values()) / self.parameters

    @property
    def bits_per_parameter(self) -> float:
        return 8 * self.tensor_bytes / self.parameters

    @property
    def compression_ratio(self) -> float:
        """Tensor bytes of the source / tensor bytes of the target."""
        return self.source_bytes / self.tensor_bytes

    @property
    def packed(self) -> tuple[TensorPlan, ...]:
        return tuple(tensor for tensor in self.tensors if tensor.action == "nvfp4")


@dataclass(frozen=True, slots=True)
class SampleFailure:
    """A conversation that the model could not run: its place in the file and the cause in one line."""

    sample: str
    cause: str


@dataclass(frozen=True, slots=True)
class CalibrationRecord:
    """What calibration saw.

    input_amax: per input site the largest |activation| (float32 of a BF16 value).
    expert_tokens: modality ("text", "image", "audio") -> experts module (`....mlp.experts`) -> tokens per expert.
    samples: conversations that passed, by modality they contain; one with an image and text counts under both.
    source_weights: `Checkpoint.weights_sample()` of the source; "" in records of other tools.
    """

    recipe: str
    source_fingerprint: str
    input_amax: Mapping[str, float]
    expert_tokens: Mapping[str, Mapping[str, tuple[int, ...]]]
    samples_total: int
    samples: Mapping[str, int]
    failures: tuple[SampleFailure, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    source_weights: str = ""

    @property
    def samples_passed(self) -> int:
        return self.samples_total - len(self.failures)


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: which check, how bad, where (tensor or file), what was found, what was expected, what to do."""

    check: str
    severity: Severity
    where: str
    found: str
    expected: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.found}; expected {self.expected}. Fix: {self.fix}  [{self.check}, {self.severity}]"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to one question about a checkpoint; `why` is one line, for "not checked" it names what is missing."""

    name: str
    state: State
    why: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Sizes of a checkpoint as its headers say, and what its own config plans (0.0 where that says nothing).

    compression_ratio: tensor bytes of the source / tensor bytes here, over the stages that both have; without a source,
    2 bytes for each parameter. quantized_fraction: parameters stored as packed NVFP4 / all parameters.
    """

    parameters: int
    tensor_bytes: int
    bits_per_parameter: float
    compression_ratio: float
    planned_compression_ratio: float
    quantized_fraction: float
    planned_quantized_fraction: float
    stages: Mapping[str, StageSize]


@dataclass(frozen=True, slots=True)
class Judgement:
    """All that `verify` says of one checkpoint. `worst_errors`: packed tensor -> (relative error, worst block's)."""

    checkpoint: str
    verdicts: tuple[Verdict, ...]
    findings: tuple[Finding, ...]
    facts: Facts
    tensor_errors: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return any(verdict.state == "fail" for verdict in self.verdicts)

    def verdict(self, name: str) -> Verdict:
        return next(verdict for verdict in self.verdicts if verdict.name == name)


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number that an assertion judged: name, value, bound, unit, and the parts it was computed from."""

    name: str
    value: float
    bound: float | None = None
    unit: str = ""
    details: Mapping[str, object] = field(default_factory=dict)


Progress = Callable[[str, int, int], None]
"""Told of long work: (what, done, total). The CLI draws bars from it; `no_progress` drops it."""


def no_progress(what: str, done: int, total: int) -> None:
    """The default `Progress`: says nothing."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """What `quantize` made and how it was judged. `record` is None where the numerics need no calibration."""

    plan: Plan
    record: CalibrationRecord | None
    judgement: Judgement
