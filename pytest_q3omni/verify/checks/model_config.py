"""config.json describes a Qwen3-Omni model: every field that shapes depend on is there and is a number.

Everything else is measured against the tensors this config implies. Where it implies none, the judge can still look at
scales, but it cannot say what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.verify.checks._protocol import CONFIG_JSON, Check, Fault
from pytest_q3omni.verify.subject import Subject


def _find(subject: Subject) -> Iterator[Fault]:
    fault = subject.config_fault
    if fault is None:
        return
    expected = fault.expected or "a Qwen3-Omni config"
    yield Fault(
        fault.where or CONFIG_JSON, fault.found, expected, fault.fix or "take config.json from the original model"
    )
    if subject.source is not None:
        subject.expect(subject.source.config)


CHECK = Check("model-config", "consistent", __doc__, _find, after=("config-fields",))
