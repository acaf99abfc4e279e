"""The public functions: what the verbs of `q3omni` and the pytest fixtures call. Paths may be `str` or `Path`.

Importing this module loads neither torch nor numpy; each function imports what it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from pytest_q3omni.errors import InvalidRequest, Q3OmniError, UnknownName
from pytest_q3omni.records import (
    CalibrationRecord,
    Judgement,
    Numerics,
    Parity,
    Plan,
    Progress,
    Quantized,
    no_progress,
)

if TYPE_CHECKING:
    from pytest_q3omni.engines.engine_report import AskEngine
    from pytest_q3omni.omni.checkpoint import Checkpoint
    from pytest_q3omni.omni.conversations import Conversation
    from pytest_q3omni.omni.hub_files import HubFiles
    from pytest_q3omni.serve.examination import Examination

AnyPath = str | PathLike[str]

__all__ = ["calibrate", "demo", "doctor", "find_record", "load_record", "parity", "plan", "quantize", "verify"]


def plan(
    source: AnyPath,
    recipes: Sequence[str] | None = None,
    *,
    layout: str = "modelopt",
    max_shard_size: str = "5GB",
) -> list[Plan]:
    """Plan recipes for SRC: a checkpoint directory, an address `hf://owner/name[@revision]`, or a config file under any
    name; without `recipes`, all of them.

    Raises:
        UnknownName: no such recipe or layout.
        Unreadable, Inconsistent, InvalidRequest: SRC cannot be read, is another model, or is quantized already.
        Unreachable: a hub does not answer.
    """
    from pytest_q3omni.omni.hub import place_of
    from pytest_q3omni.plan.build import build_plan
    from pytest_q3omni.plan.recipes import recipe_names
    from pytest_q3omni.plan.sizes import parse_size

    place = place_of(source)
    return [
        build_plan(place, name, layout_name=layout, max_shard_bytes=parse_size(max_shard_size))
        for name in recipes or recipe_names()
    ]


def calibrate(
    source: AnyPath,
    record: AnyPath,
    *,
    recipe: str,
    conversations: AnyPath,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> CalibrationRecord:
    """Run the conversations through the fake-quantized model and leave the calibration record in directory `record`.

    Raises:
        SamplesFailed: a conversation that the model cannot run; nothing is written.
        InvalidRequest: `record` holds something already, or a conversation is malformed.
        MissingDependency: the `quantize` extra is not installed.
    """
    from pytest_q3omni.calibrate.observe import run_calibration
    from pytest_q3omni.calibrate.record import save_record
    from pytest_q3omni.engines.device import check_device
    from pytest_q3omni.omni.conversations import load_conversations
    from pytest_q3omni.omni.durable import check_new_directory
    from pytest_q3omni.plan.build import build_plan

    if Path(record).resolve().is_relative_to(Path(source).resolve()):
        raise InvalidRequest("RECORD lies in SRC", where=str(record), fix="name a directory outside SRC")
    check_new_directory(Path(record), "RECORD")
    check_device(device)
    planned = build_plan(Path(source), recipe)
    samples = load_conversations(Path(conversations))
    seen = run_calibration(Path(source), planned, samples, device=device, progress=progress)
    save_record(seen, Path(record))
    return seen


def quantize(
    source: AnyPath,
    out: AnyPath,
    *,
    recipe: str,
    conversations: AnyPath | None = None,
    record: AnyPath | None = None,
    layout: str = "modelopt",
    max_memory: str = "2GiB",
    max_shard_size: str = "5GB",
    device: str = "cpu",
    progress: Progress = no_progress,
) -> Quantized:
    """Make the quantized checkpoint `out` from `source` and judge it. See `pipeline.quantize`.

    Raises:
        Q3OmniError: the request, the source, the calibration or the disk does not allow it; `out` does not exist then.
    """
    from pytest_q3omni.pipeline.quantize import quantize_checkpoint
    from pytest_q3omni.plan.sizes import parse_size

    return quantize_checkpoint(
        Path(source),
        Path(out),
        recipe,
        conversations=None if conversations is None else Path(conversations),
        record=None if record is None else Path(record),
        layout=layout,
        max_memory=parse_size(max_memory),
        max_shard_bytes=parse_size(max_shard_size),
        device=device,
        progress=progress,
    )


def load_record(record_or_checkpoint: AnyPath) -> CalibrationRecord:
    """The calibration record in a RECORD directory, or in the `q3omni` folder of a checkpoint.

    Raises:
        Unreadable: there is none, or it is damaged. Inconsistent: a link that leaves the checkpoint.
    """
    from pytest_q3omni.calibrate.record import load_record as load
    from pytest_q3omni.omni.untrusted_files import check_inside

    path = Path(record_or_checkpoint)
    own = path / "q3omni"
    if not _is_there(own / "record.json"):
        return load(path)
    check_inside(own)
    return load(own)


def _is_there(file: Path) -> bool:
    try:
        return file.exists()
    except OSError:  # a path too long, a directory that may not be entered
        return False


def verify(
    checkpoint: AnyPath,
    *,
    source: AnyPath | None = None,
    record: AnyPath | None = None,
    require: Sequence[str] = (),
    all_scales: bool = False,
    engine: str | None = None,
    depth: str = "headers",
    engine_python: AnyPath | None = None,
    progress: Progress = no_progress,
) -> Judgement:
    """Judge a checkpoint by its files; a record in `checkpoint/q3omni/` is found by itself.

    checkpoint: a directory, or `hf://owner/name[@revision]`: then its headers, scales and small files are fetched, and
        the weights never. all_scales: of such a one, every block scale, and not 256 MiB of them, evenly spread.
    engine: "vllm" for the verdict `loads`, by vLLM's own loader. depth: "headers" (shapes alone), "bytes" (every byte
        is seen to be written), or "answers" (both models answer; needs the source). engine_python: the interpreter of
        the environment that has vLLM; without it, the one that the documentation makes.

    Raises:
        Unreadable: the directory or its config.json cannot be read; there is nothing to judge.
        UnknownName: `require` names no verdict, `engine` no engine, `depth` no depth.
        MissingDependency: no environment with the engine. EngineError: it died, for no fault of the checkpoint.
        InvalidRequest: no such repository or revision.
        Unreachable: a hub does not answer, or refuses.
    """
    from pytest_q3omni.omni.hub import place_of
    from pytest_q3omni.verify.judge import judge

    ask = None if engine is None else _engine(engine, depth, engine_python)
    place = place_of(checkpoint, all_scales=all_scales)
    seen, fault = (load_record(record), None) if record is not None else _own_record(place)
    return judge(
        place,
        source=None if source is None else Path(source),
        record=seen,
        record_fault=fault,
        require=require,
        engine=ask,
        progress=progress,
    )


def _engine(name: str, depth: str, python: AnyPath | None) -> AskEngine:
    from pytest_q3omni.engines.vllm_loader import VLLMLoader

    if name != "vllm":
        raise UnknownName(f"no engine is called '{name}'", expected="vllm", fix="choose that one")
    return VLLMLoader(depth, python).load


def find_record(record_or_checkpoint: AnyPath) -> CalibrationRecord | None:
    """The calibration record, or None where there is none that can be read: for reports, not for judging."""
    try:
        return load_record(record_or_checkpoint)
    except Q3OmniError:
        return None


def _own_record(checkpoint: Path | HubFiles) -> tuple[CalibrationRecord | None, Q3OmniError | None]:
    """The record in a checkpoint's own folder, or what is wrong with it: a damaged one is a finding, not the end."""
    if not _is_there(Path(checkpoint) / "q3omni" / "record.json"):
        return None, None
    try:
        return load_record(checkpoint), None
    except Q3OmniError as error:
        return None, error if isinstance(checkpoint, Path) else checkpoint.named(error)


def parity(
    original: AnyPath,
    quantized: AnyPath,
    *,
    conversations: AnyPath | Sequence[Conversation] | None = None,
    numerics: str | None = None,
    device: str | None = None,
    progress: Progress = no_progress,
) -> Parity:
    """How a checkpoint answers beside its original, on transformers: text, image, audio and speech.

    conversations: a file of JSON lines, or conversations; those of the built-in tiny model belong to it, and need not
        be given. An answer that a conversation ends with is judged, otherwise the one that the original gives.
    numerics: "w4a16" (weights alone are rounded) or "w4a4" (inputs, too); without it, all that the files are made for.
    device: "cpu" or "cuda"; without it a CUDA device of capability 8.0 or higher, else the CPU.

    Raises:
        InvalidRequest: no conversations, no such device, the original is packed itself, or numerics that the checkpoint
            has not.
        MissingDependency: the `quantize` extra is not installed.
        EngineError, Unreadable: a model cannot be loaded, or cannot run a conversation; named.
    """
    from pytest_q3omni.engines.device import check_device
    from pytest_q3omni.pipeline.parity import compare_checkpoints, open_original

    if device is not None:
        check_device(device)
    asked = _conversations(open_original(Path(original)), conversations)
    chosen = () if numerics is None else (_numerics(numerics),)
    return compare_checkpoints(
        Path(original), Path(quantized), asked, numerics=chosen, device=device, progress=progress
    )


def _numerics(name: str) -> Numerics:
    known = get_args(Numerics)
    if name not in known:
        raise UnknownName(f"no numerics are called '{name}'", expected=f"one of {', '.join(known)}", fix="correct it")
    return cast(Numerics, name)


def _conversations(original: Checkpoint, given: AnyPath | Sequence[Conversation] | None) -> Sequence[Conversation]:
    from pytest_q3omni.omni.checkpoint import open_checkpoint
    from pytest_q3omni.omni.conversations import load_conversations
    from pytest_q3omni.omni.tiny import checkpoint_path, conversations_path

    if given is None:
        tiny = open_checkpoint(checkpoint_path())
        if (original.fingerprint(), original.weights_sample()) != (tiny.fingerprint(), tiny.weights_sample()):
            raise InvalidRequest(
                "no conversations to compare answers on", where=str(original.path), expected="a file of JSON lines",
                fix="pass --conversations FILE.jsonl (conversations=... in Python), with text, pictures and sound",
            )  # fmt: skip
        given = conversations_path()
    return load_conversations(Path(given)) if isinstance(given, str | PathLike) else given


def demo(out: AnyPath = "q3omni-demo", *, progress: Progress = no_progress) -> Quantized:
    """The whole way on the built-in tiny model, parity included; leaves `original/`, `quantized/` and `report.html`.

    Raises:
        InvalidRequest: `out` holds something that an earlier demo did not make.
        MissingDependency: the `quantize` extra is not installed.
    """
    from pytest_q3omni.omni.durable import unwritable, write_file
    from pytest_q3omni.pipeline.demo import run_demo
    from pytest_q3omni.report import html

    made = run_demo(Path(out), progress=progress)
    page = html.render_judgement(made.judgement, plan=made.plan, record=made.record, parity=made.parity)
    try:
        write_file(Path(out) / "report.html", page.encode())
    except OSError as error:
        raise unwritable(error, Path(out) / "report.html") from error
    return made


def doctor(
    source: AnyPath | None = None,
    *,
    recipe: str = "nvfp4-default",
    engine_python: AnyPath | None = None,
    at_once: int = 8,
    context: int = 4096,
) -> Examination:
    """What this machine can do with a checkpoint, and what is in its way: driver, torch, vLLM, kernels, memory.

    source: as of `plan`, or a checkpoint that is packed already, which is judged instead of the recipe then; without
        it the full-size Qwen3-Omni. engine_python: as of `verify`. at_once, context: requests that are served together,
        and tokens of each, for which the KV cache has to fit.

    Nothing has to be installed, and nothing raises for what is broken: it becomes a row that says so.

    Raises:
        UnknownName: no such recipe. InvalidRequest: `engine_python` is no program, or no tokens are asked for.
        Unreadable, Inconsistent, Incomplete: the source cannot be read. Unreachable: a hub does not answer.
    """
    from pytest_q3omni.omni.hub import place_of
    from pytest_q3omni.pipeline.doctor import examine_machine
    from pytest_q3omni.pipeline.shapes import FULL_SIZE

    place = place_of(FULL_SIZE if source is None else source)
    return examine_machine(place, recipe, engine_python=engine_python, at_once=at_once, context=context)
