"""Running calibration: look first, then run the fake-quantized model, and give back what it saw. Writes nothing.

The order is by price. What can be refused without the model is refused first (the plan belongs to the source, every
conversation is ChatML and can be decoded); then one conversation of each kind runs on the unquantized model, and if one
fails all of them are tried, so that a single run names everything that is wrong; only then come the quantizers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from pytest_q3omni import __version__
from pytest_q3omni.calibrate.coverage import Coverage
from pytest_q3omni.engines import modelopt
from pytest_q3omni.engines.transformers import Inputs, Step, conversation_inputs, load_model, thinker_step
from pytest_q3omni.errors import (
    CalibrationError,
    EngineError,
    Inconsistent,
    InvalidRequest,
    MissingDependency,
    NonFiniteAmax,
    Q3OmniError,
    SamplesFailed,
)
from pytest_q3omni.omni.checkpoint import open_checkpoint
from pytest_q3omni.omni.config import omni_section
from pytest_q3omni.omni.conversations import Conversation
from pytest_q3omni.omni.processor import load_processor
from pytest_q3omni.records import CalibrationRecord, Plan, Progress, SampleFailure, no_progress

_SHOWN = 10
_THINKER = "thinker."


@dataclass
class _Run:
    """One calibration under way. context: tokens that the model was made for. failures: conversation id -> cause."""

    processor: Any
    conversations: Sequence[Conversation]
    step: Step
    context: int
    device: str
    tolerate: int
    progress: Progress
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def remaining(self) -> list[Conversation]:
        return [conversation for conversation in self.conversations if conversation.id not in self.failures]

    def inputs(self, conversation: Conversation) -> Inputs:
        """The model's inputs.

        Raises:
            InvalidRequest: more tokens than the model was made for; attention to all of them would take hours.
        """
        inputs = conversation_inputs(self.processor, conversation, device=self.device)
        tokens = inputs["input_ids"].shape[1]
        if tokens > self.context:
            expected = f"at most {self.context}, the model's max_position_embeddings"
            fix = "shorten the text, or use fewer or smaller pictures and recordings"
            raise InvalidRequest(f"{tokens} tokens", where=conversation.id, expected=expected, fix=fix)
        return inputs

    def check(self, when: str) -> None:
        """Stop here if more failed than tolerated, or nothing is left.

        Raises:
            SamplesFailed: names them and their causes.
        """
        if len(self.failures) > self.tolerate or not self.remaining:
            raise _samples_failed(self.failures, len(self.conversations), self.tolerate, when)


def run_calibration(
    source: Path,
    plan: Plan,
    conversations: Sequence[Conversation],
    *,
    device: str = "cpu",
    progress: Progress = no_progress,
    tolerate_failures: int = 0,
    step: Step = thinker_step,
) -> CalibrationRecord:
    """Run the conversations through the model that the plan's quantizers are in, and return what they saw.

    A plan without input sites (W4A16, bf16) needs no amax: the unquantized model runs, and only coverage is recorded.

    source: the BF16 checkpoint that the plan was made for. step: runs the model on the inputs of one conversation.
    tolerate_failures: so many conversations may fail; they are named in the record, which `verify` then faults.

    Raises:
        InvalidRequest: no conversations, or two with the same id.
        Inconsistent: the plan belongs to another checkpoint.
        SamplesFailed: more conversations failed than tolerated; each is named with its cause.
        NonFiniteAmax: an input site of the plan saw no data, or NaN, Inf or nothing but zeros.
        MissingDependency, Unreadable, Incomplete, EngineError: model, processor or ModelOpt cannot be loaded or run.
    """
    _check_request(source, plan, conversations)
    run = _Run(load_processor(source), conversations, step, _context(source), device, tolerate_failures, progress)
    _check_conversations(run)
    speech = any(not tensor.input_site.startswith(_THINKER) for tensor in plan.packed if tensor.input_site)
    found, coverage = _observe(run, plan, lambda: load_model(source, speech=speech, device=device))
    check_amax(plan, found)
    return CalibrationRecord(
        recipe=plan.recipe,
        source_fingerprint=plan.fingerprint,
        input_amax=dict(sorted(found.items())),
        expert_tokens=coverage.tokens(),
        samples_total=len(conversations),
        samples=_by_modality(run.remaining),
        failures=tuple(SampleFailure(sample, cause) for sample, cause in run.failures.items()),
        versions=_versions(),
        source_weights=open_checkpoint(source).weights_sample(),
    )


def check_amax(plan: Plan, found: Mapping[str, float]) -> None:
    """Return if every input site of the plan has an amax that a scale can be made of.

    Raises:
        NonFiniteAmax: names the sites, and says what data would reach them.
    """
    sites = sorted({tensor.input_site for tensor in plan.packed if tensor.input_site})
    faults = [
        f"{site}: {found.get(site, 'saw no data')}"
        for site in sites
        if not (isfinite(found.get(site, 0.0)) and found.get(site, 0.0) > 0)
    ]
    if faults:
        more = f", and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise NonFiniteAmax(
            f"{len(faults)} of {len(sites)} input sites have no usable amax: {'; '.join(faults[:_SHOWN])}{more}",
            where="calibration", expected="a finite number above zero for each site",
            fix="add conversations that reach these layers (a modality, or speech, may be missing); NaN or Inf means "
            "that the model itself overflows on a conversation: run it in BF16 and look",
        )  # fmt: skip


def _check_request(source: Path, plan: Plan, conversations: Sequence[Conversation]) -> None:
    if not conversations:
        raise InvalidRequest("no conversations", expected="at least one", fix="pass a file with conversations")
    names = [conversation.id for conversation in conversations]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise InvalidRequest(f"two conversations are called {twice[0]}", expected="ids that differ", fix="rename one")
    fingerprint = open_checkpoint(source).fingerprint()
    if fingerprint != plan.fingerprint:
        raise Inconsistent(
            f"the plan belongs to another checkpoint ({plan.fingerprint[:12]}, this is {fingerprint[:12]})",
            where=str(source), expected="the plan's own source", fix="plan this checkpoint again",
        )  # fmt: skip


def _context(source: Path) -> int:
    """Tokens that the thinker was made for."""
    text = omni_section(open_checkpoint(source).config, "config.json").section("thinker_config").section("text_config")
    return text.number("max_position_embeddings")


def _check_conversations(run: _Run) -> None:
    """Template and decode every conversation; the model is not needed for that."""
    for number, conversation in enumerate(run.conversations):
        run.progress("checking conversations", number, len(run.conversations))
        try:
            run.inputs(conversation)
        except MissingDependency:
            raise
        except Exception as error:  # noqa: BLE001 (a sample may fail in any way: each one is named in the report)
            run.failures[conversation.id] = _cause(error, conversation)
    run.progress("checking conversations", len(run.conversations), len(run.conversations))
    run.check("before the model was loaded")


def _observe(run: _Run, plan: Plan, load: Callable[[], Any]) -> tuple[dict[str, float], Coverage]:
    """`_calibrate`, and once more on a fresh model if a sample failed: half-way, it has left its amax behind."""
    model = load()
    _preflight(run, model)
    while True:
        before = len(run.failures)
        try:
            found, coverage = _calibrate(run, model, plan)
        except EngineError:  # NaN that a tolerated sample has left
            if len(run.failures) == before:
                raise
        else:
            if len(run.failures) == before or not found:
                return found, coverage
        del model  # two do not fit
        model = load()


def _preflight(run: _Run, model: Any) -> None:
    """Run the unquantized model on one conversation of each kind, and on all of them if one fails."""
    kinds: dict[frozenset[str], Conversation] = {}
    for conversation in run.remaining:
        kinds.setdefault(frozenset(conversation.modalities), conversation)
    if not all([_passes(run, model, conversation) for conversation in kinds.values()]):
        tried = {conversation.id for conversation in kinds.values()}
        rest = [conversation for conversation in run.remaining if conversation.id not in tried]
        for number, conversation in enumerate(rest):
            run.progress("looking for all failures", number, len(rest))
            _passes(run, model, conversation)
        run.progress("looking for all failures", len(rest), len(rest))
    run.check("before anything was quantized")


def _calibrate(run: _Run, model: Any, plan: Plan) -> tuple[dict[str, float], Coverage]:
    """(input site -> amax, coverage) of the conversations that pass."""
    coverage = Coverage(model)

    def loop(quantized: Any) -> None:
        chosen = run.remaining
        with coverage.watching():
            for number, conversation in enumerate(chosen):
                run.progress("calibrating", number, len(chosen))
                _passes(run, quantized, conversation, coverage)
            run.progress("calibrating", len(chosen), len(chosen))

    if not any(tensor.input_site for tensor in plan.packed):
        loop(model)
        run.check("while calibrating")
        return {}, coverage
    try:
        model = modelopt.fake_quantize(model, plan.tensors, loop, weights=False)
    except EngineError:
        run.check("while calibrating")  # failed samples explain more than what ModelOpt makes of them
        raise
    run.check("while calibrating")
    return modelopt.input_amax(model, plan.tensors), coverage


def _passes(run: _Run, model: Any, conversation: Conversation, coverage: Coverage | None = None) -> bool:
    """Run one conversation; a failure is noted. Only a sample that passes is counted."""
    import torch

    try:
        inputs = run.inputs(conversation)
        if coverage is not None:
            coverage.begin(inputs)
        with torch.inference_mode():
            _check_finite(run.step(model, inputs), conversation)
    except Exception as error:  # noqa: BLE001 (a sample may fail in any way: each one is named in the report)
        run.failures[conversation.id] = _cause(error, conversation)
        return False
    if coverage is not None:
        coverage.keep()
    return True


def _check_finite(output: Any, conversation: Conversation) -> None:
    """Return if the step's output has no logits, or finite ones.

    Raises:
        CalibrationError: NaN or Inf among them.
    """
    import torch

    logits = getattr(output, "logits", None)
    if not isinstance(logits, torch.Tensor) or not logits.numel() or torch.stack(logits.aminmax()).isfinite().all():
        return
    fix = "run it in BF16 and look where the model overflows"
    if "audio" in conversation.modalities:
        fix = f"use longer recordings, very short ones overflow the audio tower; otherwise {fix}"
    found, expected = "NaN or Inf among the model's logits", "finite numbers"
    raise CalibrationError(found, where=conversation.id, expected=expected, fix=fix)


def _cause(error: Exception, conversation: Conversation) -> str:
    """An error in one line, without the conversation's name, which stands beside it.

    Of our own errors what was found and how to fix it, of others type and message.
    """
    if not isinstance(error, Q3OmniError):
        return " ".join(f"{type(error).__name__}: {error}".split())
    place = error.where.removeprefix(conversation.id).strip()
    if place.startswith("(") and place.endswith(")"):
        place = place[1:-1]
    text = f"{place}: {error.found}" if place else error.found
    text += f"; expected {error.expected}" if error.expected else ""
    return " ".join(f"{text} ({error.fix})".split() if error.fix else text.split())


def _samples_failed(failures: dict[str, str], total: int, tolerate: int, when: str) -> SamplesFailed:
    causes: dict[str, list[str]] = {}
    for sample, cause in failures.items():
        causes.setdefault(cause, []).append(sample)
    shown = [
        f"{cause} [{', '.join(names[:_SHOWN])}{f', and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''}]"
        for cause, names in list(causes.items())[:_SHOWN]
    ]
    if len(causes) > _SHOWN:
        shown.append(f"and {len(causes) - _SHOWN} more causes")
    listed = f" {shown[0]}" if len(shown) == 1 else "".join(f"\n  - {line}" for line in shown)
    forward = any("_forward_unimplemented" in cause or 'missing the required "forward"' in cause for cause in causes)
    return SamplesFailed(
        f"{len(failures)} of {total} samples failed {when}:{listed}",
        where="calibration",
        expected=f"every sample to pass ({tolerate} failures are tolerated)",
        fix="Qwen3-Omni as a whole has no forward: call model.thinker(**inputs), or model.generate(...) for speech"
        if forward
        else "repair these conversations or leave them out; nothing was written",
    )


def _by_modality(passed: Sequence[Conversation]) -> dict[str, int]:
    kinds = sorted({kind for conversation in passed for kind in conversation.modalities})
    return {kind: sum(kind in conversation.modalities for conversation in passed) for kind in kinds}


def _versions() -> dict[str, str]:
    """Releases that shaped the result; a recipe without input sites runs without ModelOpt."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"pytest-q3omni": __version__}
    for name in ("torch", "transformers", modelopt.PACKAGE):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
