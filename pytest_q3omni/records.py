"""Plain records that the rooms of this package hand to each other. No behaviour beyond derived sums.

Names of dtypes are those of safetensors headers: BF16, F32, F8_E4M3, U8. Sizes are bytes unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Numerics = Literal["bf16", "w4a16", "w4a4"]
Scheme = Literal["w4a16", "w4a4", "fp8", "fp8_dynamic"]
"""How one Linear is stored: NVFP4 weights with BF16 or NVFP4 inputs; FP8 (E4M3) with one scale for the weight and one
for its input, or with a scale per row and inputs that are scaled while the model runs."""
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
    """Parameters and tensor bytes of one stage; `packed_parameters` of them are NVFP4, `fp8_parameters` FP8."""

    parameters: int
    source_bytes: int
    tensor_bytes: int
    packed_parameters: int
    fp8_parameters: int = 0


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
    def scheme(self) -> Scheme | None:
        """How the packed weights are stored; None where the recipe packs nothing."""
        return None if self.numerics == "bf16" else self.numerics

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
    2 bytes for each parameter. quantized_fraction: parameters stored as packed NVFP4 / all parameters; fp8_fraction:
    those stored as FP8.
    layers: the same by layer (`thinker.model.layers.0`); what is outside all layers, by the first two names of its
    module (`thinker.lm_head`). Their sums are those of the stages.
    """

    parameters: int
    tensor_bytes: int
    bits_per_parameter: float
    compression_ratio: float
    planned_compression_ratio: float
    quantized_fraction: float
    planned_quantized_fraction: float
    stages: Mapping[str, StageSize]
    layers: Mapping[str, StageSize] = field(default_factory=dict)
    fp8_fraction: float = 0.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What came from a hub: bytes of all answers, and how many requests it took, redirects included."""

    bytes: int
    requests: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """All that `verify` says of one checkpoint. `tensor_errors`: packed tensor -> (relative error, worst block's);
    `fetched`: what judging a checkpoint on a hub took, None for a directory.
    """

    checkpoint: str
    verdicts: tuple[Verdict, ...]
    findings: tuple[Finding, ...]
    facts: Facts
    tensor_errors: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    fetched: Traffic | None = None

    @property
    def failed(self) -> bool:
        return any(verdict.state == "fail" for verdict in self.verdicts)

    def verdict(self, name: str) -> Verdict:
        return next(verdict for verdict in self.verdicts if verdict.name == name)


@dataclass(frozen=True, slots=True)
class Divergence:
    """Kullback-Leibler divergence of next-token distributions, over answer tokens, in nats.

    mean, median, p99, p999, largest: of KL(reference || other) per token; infinite where the other model computes NaN,
    or excludes a token that the reference does not. error: standard error of the mean, with conversations as the
    independent units (tokens of one answer are not); infinite for a single one. top1: share of tokens where both have
    the same most likely next token.
    """

    conversations: int
    tokens: int
    mean: float
    error: float
    median: float
    p99: float
    p999: float
    largest: float
    top1: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """Does a checkpoint answer like its original: one modality, one numerics.

    modality: "text", "image" or "audio"; of speech, the codes of the stages "talker" and "code_predictor".
    divergence: KL(BF16 || checkpoint). plain: KL(BF16 || plain NVFP4), which is ModelOpt's fake quantization of the
    same layers of the original; where nothing is packed (bf16), the repeat. apart: KL(plain NVFP4 || checkpoint).
    repeat: KL(BF16 || BF16 computed another way), what no quantization is to blame for.
    accuracy: share of answers of which every token is the most likely one, for the checkpoint, the original, and plain
    NVFP4; of the conversations' own answers where they have one.
    limit: largest mean of `divergence` that passes. needed_tokens: answer tokens for that limit to mean something.
    """

    modality: str
    numerics: Numerics
    divergence: Divergence
    plain: Divergence
    apart: Divergence
    repeat: Divergence
    accuracy: float
    original_accuracy: float
    plain_accuracy: float
    limit: float
    needed_tokens: int
    state: State

    @property
    def where(self) -> str:
        """How findings and messages call the row."""
        return f"{self.modality} answers in {self.numerics.upper()}"


@dataclass(frozen=True, slots=True)
class InputRange:
    """An input that is rounded to NVFP4: the largest |activation| that the file's scale holds, and the largest seen.

    module: the packed module with the largest scale among those that share the input (q/k/v; all experts of a layer).
    seen: over the conversations of this run, in BF16; of the whole layer where experts share their input.
    lowest, holds_least: the module with the smallest scale, and what that holds; "" where all have the same.
    """

    module: str
    holds: float
    seen: float
    lowest: str = ""
    holds_least: float = 0.0


@dataclass(frozen=True, slots=True)
class SpeechSample:
    """One spoken answer of both models, greedy. equal_codes: share of equal codes over the frames of the longer one.

    snr: decibels of the original's waveform over its difference from the checkpoint's; None where there is no
    difference. vocoder_snr: the same where the checkpoint's code2wav is given the original's codes, so that only it
    may differ.
    """

    conversation: str
    modality: str
    text: tuple[str, str]
    frames: tuple[int, int]
    equal_codes: float
    snr: float | None
    vocoder_snr: float | None = None


@dataclass(frozen=True, slots=True)
class SpeechAgreement:
    """How a checkpoint in one numerics speaks, against its original.

    codebooks: KL(BF16 || checkpoint) per codebook of the codec, teacher-forced with the original's codes; the first is
    the talker's, the others the code predictor's. spectrograms: "original" and "quantized" -> log-mel-spaced power in
    decibels, rows from low to high frequency, columns in time, of the first sample that both speak;
    `spectrogram_seconds` long.
    """

    numerics: Numerics
    codebooks: tuple[Divergence, ...]
    samples: tuple[SpeechSample, ...]
    spectrograms: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    spectrogram_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Parity:
    """All that `parity` says of a checkpoint beside its original. `verdict` is `agrees`, over all rows."""

    original: str
    quantized: str
    device: str
    versions: Mapping[str, str]
    verdict: Verdict
    agreements: tuple[Agreement, ...]
    inputs: tuple[InputRange, ...] = ()
    speech: tuple[SpeechAgreement, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def failed(self) -> bool:
        return self.verdict.state == "fail"


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
    """What `quantize` made and how it was judged. `record` is None where the numerics need no calibration, `parity`
    where nobody asked for answers.
    """

    plan: Plan
    record: CalibrationRecord | None
    judgement: Judgement
    parity: Parity | None = None
