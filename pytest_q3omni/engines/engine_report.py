"""What an engine's own loader made of a checkpoint: plain data, as the judge reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pytest_q3omni.omni.checkpoint import Checkpoint

Depth = Literal["headers", "bytes", "answers"]
DEPTHS: tuple[Depth, ...] = get_args(Depth)
"""How far an engine is asked: shapes alone; the bytes as well; real answers. Every depth begins with the headers."""

UNQUANTIZED = "unquantized"


@dataclass(frozen=True, slots=True)
class Rejection:
    """The engine refuses the checkpoint. step: "configure", "build", "load" or "answer"; message: its own words.

    tensor: the one it asked for last, "" before it asked for any.
    """

    step: str
    message: str
    tensor: str = ""


@dataclass(frozen=True, slots=True)
class Unwritten:
    """A parameter of the engine that the checkpoint's tensors do not fill.

    module: its owner, as the checkpoint spells it: `....mlp.experts`, `....self_attn.qkv_proj`. parameter: its name
    there, such as `w13_weight_scale`. written, total: elements. rows: length of its first dimension, 1 for a scalar;
    gaps: runs of them (first, after the last) that are not wholly written. why: why that is right, "" where it is not.
    """

    module: str
    parameter: str
    written: int
    total: int
    rows: int
    gaps: tuple[tuple[int, int], ...]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """One question's greedy answers in the same engine: token ids and text, of the original and of the checkpoint."""

    question: str
    modality: str
    original: tuple[int, ...]
    quantized: tuple[int, ...]
    texts: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class EngineReport:
    """All that an engine showed.

    versions: "vllm", "torch", "platform". tensors: fed; parameters, elements: of the engine's model. methods: module,
    fused as the engine does it -> scheme ("w4a4", "w4a16", "fp8", "fp8_dynamic", "unquantized"), or the class of a
    method that is none of these. seconds, peak_bytes: of all its processes: their sum, and the largest one's memory.
    """

    engine: str
    depth: Depth
    versions: Mapping[str, str]
    tensors: int
    rejected: Rejection | None = None
    parameters: int = 0
    elements: int = 0
    methods: Mapping[str, str] = field(default_factory=dict)
    unwritten: tuple[Unwritten, ...] = ()
    replies: tuple[Reply, ...] = ()
    seconds: float = 0.0
    peak_bytes: int = 0

    @property
    def version(self) -> str:
        return self.versions.get(self.engine, "of unknown version")

    @property
    def name(self) -> str:
        """How sentences call it: `vLLM 0.32.0`."""
        return f"{'vLLM' if self.engine == 'vllm' else self.engine} {self.version}"


AskEngine = Callable[[Checkpoint, Checkpoint | None], EngineReport]
"""An engine as the judge asks it: of a checkpoint and, where there is one, its original."""


def parse_loading(engine: str, depth: Depth, content: Mapping[str, Any]) -> EngineReport:
    """The report in an answer of `vllm_inside`.

    Raises:
        KeyError, TypeError, ValueError: it is not one.
    """
    return EngineReport(
        engine=engine,
        depth=depth,
        versions={str(key): str(value) for key, value in content["versions"].items()},
        tensors=int(content["tensors"]),
        rejected=_rejection(content["rejected"]),
        parameters=int(content.get("parameters", 0)),
        elements=int(content.get("elements", 0)),
        methods=dict(content.get("methods", {})),
        unwritten=tuple(map(_unwritten, content.get("unwritten", ()))),
        seconds=float(content["seconds"]),
        peak_bytes=int(content["peak_bytes"]),
    )


Answer = tuple[tuple[int, ...], str]
"""Token ids and text."""


def parse_answers(content: Mapping[str, Any]) -> tuple[Rejection | None, list[Answer]]:
    """The answers in an answer of `vllm_inside`, or why there are none.

    Raises:
        KeyError, TypeError, ValueError: it is not one.
    """
    refused = _rejection(content["rejected"])
    given = [] if refused is not None else content["answers"]
    return refused, [(tuple(map(int, one["tokens"])), str(one["text"])) for one in given]


def _rejection(refusal: Mapping[str, Any] | None) -> Rejection | None:
    return None if refusal is None else Rejection(refusal["step"], refusal["message"], refusal["tensor"])


def _unwritten(item: Mapping[str, Any]) -> Unwritten:
    gaps = tuple((int(first), int(end)) for first, end in item["gaps"])
    written, total, rows = (int(item[key]) for key in ("written", "total", "rows"))
    return Unwritten(item["module"], item["suffix"], written, total, rows, gaps, item["why"])
