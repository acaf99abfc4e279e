"""Does an engine's own loader take the checkpoint?"""

from __future__ import annotations

from os import PathLike

from pytest_q3omni.assertions._arguments import AnyCheckpoint, optional_path, path_of
from pytest_q3omni.assertions.outcome import OPEN, fail, hear
from pytest_q3omni.records import Measurement
from pytest_q3omni.verify.checks import checks


def assert_loads_in_vllm(
    checkpoint: AnyCheckpoint,
    *,
    depth: str = "headers",
    engine_python: str | PathLike[str] | None = None,
    source: AnyCheckpoint | None = None,
) -> Measurement:
    """Assert that vLLM's loader writes every parameter from the checkpoint and quantizes the layers that are packed.

    depth: "headers" (shapes alone; the full-size model takes 20 s and 0.7 GiB), "bytes" (every byte is seen to be
    written), or "answers" (both models answer text, pictures and sound; needs `source`, the BF16 original).
    engine_python: the interpreter that has vLLM; without it `Q3OMNI_ENGINE_PYTHON`, then the documented environment.
    The value is the number of errors; `details["why"]` says what was loaded, `details["findings"]` has warnings, too.

    Raises:
        AssertionError: vLLM's refusal, or every parameter that is not written and every layer that is not quantized.
        MissingDependency: there is no environment with vLLM. EngineError: it died, for no fault of the checkpoint.
        Unreadable, UnknownName, InvalidRequest: nothing to judge, no such depth, answers without `source`.
    """
    __tracebackhide__ = True
    from pytest_q3omni import api

    place = path_of(checkpoint)
    judgement = api.verify(
        place, source=optional_path(source), engine="vllm", depth=depth, engine_python=engine_python
    )  # fmt: skip
    hear(judgement)
    verdict = judgement.verdict("loads")
    own = {check.name for check in checks() if check.verdict == "loads"}
    findings = [finding for finding in judgement.findings if finding.check in own]
    errors = [finding for finding in findings if finding.severity == "error"]
    if verdict.state == OPEN:
        others = [str(finding) for finding in judgement.findings if finding.severity == "error"]
        fail("assert_loads_in_vllm", place, f"not checked: {verdict.why}", others)
    if errors:
        fail("assert_loads_in_vllm", place, f"depth {depth}: {verdict.why}", [*map(str, findings)])
    return Measurement("errors", len(errors), 0, "errors", {"why": verdict.why, "findings": tuple(findings)})
