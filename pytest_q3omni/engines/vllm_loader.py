"""vLLM as a judge: does its own loader take a checkpoint, all of it, with the methods that the checkpoint is made for?

vLLM is not imported here. It runs in an interpreter of its own (`engine_python.py`), which starts `vllm_inside/` by its
path; requests and answers are JSON files in a folder that goes away. vLLM sees a copy of the small files it needs and,
where it must generate, links to the weights: no pickle, no code, nothing else of what a stranger's folder may hold.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_q3omni.engines.engine_process import end, environment, how_it_ended, last_words
from pytest_q3omni.engines.engine_python import find_python
from pytest_q3omni.engines.engine_report import DEPTHS, Depth, EngineReport, Reply, parse_answers, parse_loading
from pytest_q3omni.engines.vllm_questions import ask, bundled_questions, general_questions
from pytest_q3omni.errors import EngineError, InvalidRequest, UnknownName
from pytest_q3omni.omni.checkpoint import CONFIG, INDEX, Checkpoint, open_checkpoint
from pytest_q3omni.omni.safetensors_file import Entry

INSIDE = Path(__file__).with_name("vllm_inside")
SECONDS: Mapping[Depth, float] = {"headers": 900, "bytes": 3600, "answers": 7200}
"""How long one process may take. Full size: headers 20 s; the others read 26 GiB."""
MOST_BYTES = 64_000_000
"""Largest small file that is copied for the engine."""

_CONFIGS = (CONFIG, "hf_quant_config.json")
_COMPANIONS = (
    "generation_config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "chat_template.json", "chat_template.jinja", INDEX,
)  # fmt: skip
_TOKENS, _CONTEXT = 16, 4096


class VLLMLoader:
    """vLLM, asked at one depth. Making one looks for the interpreter, so that a missing one is said before the work.

    Raises:
        UnknownName: no such depth. InvalidRequest, MissingDependency: as `find_python`.
    """

    def __init__(self, depth: str = "headers", python: str | os.PathLike[str] | None = None) -> None:
        if depth not in DEPTHS:
            raise UnknownName(f"no depth is called '{depth}'", expected=f"one of {', '.join(DEPTHS)}", fix="correct it")
        self.depth: Depth = depth
        self.python = find_python(python)

    def load(self, checkpoint: Checkpoint, original: Checkpoint | None = None) -> EngineReport:
        """Let vLLM's loader judge the checkpoint; depth "answers" also asks both models, and needs the original.

        Raises:
            InvalidRequest: answers without the original, or a depth that needs weights which are not here.
            EngineError: vLLM's process died, took too long, or answered nonsense; its last lines are in the message.
        """
        self._check(checkpoint, original)
        with tempfile.TemporaryDirectory(prefix="q3omni-engine-") as folder:
            scratch = Path(folder)
            shown: Depth = "bytes" if self.depth == "bytes" else "headers"
            content = self._run(scratch / "load", checkpoint, {"depth": shown, "tensors": fed(checkpoint)})
            report = self._parsed(content, checkpoint)
            if self.depth != "answers" or report.rejected is not None or original is None:
                return report
            return self._with_answers(report, checkpoint, original, scratch)

    def _check(self, checkpoint: Checkpoint, original: Checkpoint | None) -> None:
        place = str(checkpoint.path)
        if self.depth == "answers" and original is None:
            found, fix = "answers, and no original to compare them with", "pass --source SRC, or --depth bytes"
            raise InvalidRequest(found, where=place, expected="the BF16 original", fix=fix)
        if self.depth != "headers" and not checkpoint.holds_weights:
            fix = "download it, or use --depth headers"
            raise InvalidRequest(f"depth '{self.depth}' of a checkpoint on a hub", where=place, fix=fix)

    def _with_answers(
        self, report: EngineReport, checkpoint: Checkpoint, original: Checkpoint, scratch: Path
    ) -> EngineReport:
        questions = bundled_questions() if is_bundled(original) else general_questions()
        asked: dict[str, Any] = {"depth": "answers", "tensors": [], "questions": ask(questions, scratch)}
        asked |= {"max_tokens": _TOKENS, "max_model_len": _context(checkpoint)}
        first = self._run(scratch / "original", original, asked)
        try:
            refused, theirs = parse_answers(first)
            if refused is not None:
                found = f"vLLM does not answer with the original: {refused.message}"
                raise EngineError(found, where=str(original.path), fix="judge at --depth bytes")
            second = self._run(scratch / "quantized", checkpoint, asked)
            rejected, ours = parse_answers(second)
            total = report.seconds + first["seconds"] + second["seconds"]
            peak = max(report.peak_bytes, first["peak_bytes"], second["peak_bytes"])
            pairs = () if rejected is not None else zip(questions, theirs, ours, strict=True)
            replies = tuple(Reply(q.id, q.modality, a[0], b[0], (a[1], b[1])) for q, a, b in pairs)
        except (KeyError, TypeError, ValueError) as error:
            raise self._nonsense(error) from error
        return replace(report, rejected=rejected, replies=replies, seconds=total, peak_bytes=peak)

    def _run(self, folder: Path, checkpoint: Checkpoint, request: Mapping[str, Any]) -> Any:
        """One process for one checkpoint; the content of its answer."""
        stage(checkpoint, folder / "model", whole=request["depth"] == "answers")
        asked, answered, log = folder / "request.json", folder / "answer.json", folder / "log.txt"
        asked.write_text(json.dumps({**request, "model": str(folder / "model")}), encoding="utf-8")
        command = [str(self.python), str(INSIDE), str(asked), str(answered)]
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, cwd=folder,
                env=environment(self.python), start_new_session=True,
            )  # fmt: skip
            ended = _wait(process, SECONDS[self.depth])
        if not ended:
            found, fix = f"no answer within {SECONDS[self.depth]:g} s", "use a faster machine, or a lower --depth"
            raise EngineError(found, where=f"vLLM in {self.python}", expected="an answer", fix=fix)
        if process.returncode or not answered.exists():
            raise self._died(process.returncode, log)
        try:
            return json.loads(answered.read_text(encoding="utf-8"))
        except ValueError as error:
            raise self._nonsense(error) from error

    def _parsed(self, content: Any, checkpoint: Checkpoint) -> EngineReport:
        try:
            return parse_loading("vllm", self.depth, content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._nonsense(error, str(checkpoint.path)) from error

    def _nonsense(self, error: Exception, where: str = "") -> EngineError:
        found = f"vLLM's process answered something else than a report ({type(error).__name__}: {error})"
        fix = f"check that {self.python} is the interpreter of an environment with vLLM"
        return EngineError(found, where=where or f"vLLM in {self.python}", expected="a report", fix=fix)

    def _died(self, code: int, log: Path) -> EngineError:
        found = f"vLLM's process {how_it_ended(code)}. Its last lines: {last_words(log)}"
        fix = "try a lower --depth, and check the environment against engines/vllm_requirements.txt"
        return EngineError(found, where=f"vLLM in {self.python}", expected="an answer", fix=fix)


def fed(checkpoint: Checkpoint) -> list[tuple[Any, ...]]:
    """The tensors that vLLM would read, file by file: of files that an index names, where there is one."""
    index = checkpoint.index
    named = None if index is None else set(index.values())
    chosen = [e for e in checkpoint.entries.values() if named is None or e.file.name in named]
    return [_fed(entry) for entry in sorted(chosen, key=lambda entry: (entry.file.name, entry.begin))]


def _fed(entry: Entry) -> tuple[Any, ...]:
    info = entry.info
    return info.name, info.dtype, info.shape, str(entry.file.absolute()), entry.begin, entry.end


def stage(checkpoint: Checkpoint, folder: Path, *, whole: bool) -> None:
    """What vLLM may see of a checkpoint: its configs; if `whole`, tokenizer and processor files and weights, too."""
    folder.mkdir(parents=True)
    for name in (*_CONFIGS, *(_COMPANIONS if whole else ())):
        source = checkpoint.path / name
        ours = not checkpoint.holds_weights or checkpoint.storage.fault(source) is None  # no link that leaves it
        if ours and source.is_file() and source.stat().st_size <= MOST_BYTES:
            shutil.copyfile(source, folder / name)
    for file in checkpoint.files if whole else ():
        (folder / file.name).symlink_to(file.resolve())


def is_bundled(original: Checkpoint) -> bool:
    """True for the built-in tiny model, which has questions of its own."""
    from pytest_q3omni.omni.tiny import checkpoint_path

    tiny = open_checkpoint(checkpoint_path())
    if original.fingerprint() != tiny.fingerprint():
        return False
    return original.weights_sample() == tiny.weights_sample()


def _context(checkpoint: Checkpoint) -> int:
    """Tokens that questions and answers may have together: as many as the model can, at most `_CONTEXT`."""
    inner: Any = checkpoint.config
    for name in ("thinker_config", "text_config"):
        inner = inner.get(name, inner) if isinstance(inner, Mapping) else {}
    known = inner.get("max_position_embeddings") if isinstance(inner, Mapping) else None
    return min(known, _CONTEXT) if isinstance(known, int) and known > 0 else _CONTEXT


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """True where the process ended in time; otherwise it and its children are ended."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    finally:
        end(process)  # also where we are interrupted while we wait
    return True
