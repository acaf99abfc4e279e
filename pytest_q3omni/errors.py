"""Every error this package raises on purpose.

    Q3OmniError
      InvalidRequest(ValueError)      the caller asked for something that makes no sense
        UnknownName                   a recipe, layout, check or engine that does not exist
        NotChatML                     a prompt without the role markers that speech needs
        WeightsNotHeld                weights asked for of a checkpoint on a hub, of which they are never fetched
      MissingDependency(ImportError)  an extra is not installed
      FormatError(ValueError)         values, shapes or dtypes that the number format cannot hold
      CalibrationError                calibration ran and its result must not be used
        SamplesFailed                 conversations that the model could not run
        NonFiniteAmax                 a recorded amax that is NaN, Inf, zero or absent
      CheckpointError                 a directory that is not a usable checkpoint
        Unreadable                    a file that is missing, truncated or not what it claims
        Incomplete                    parts of the checkpoint are missing
        Inconsistent                  parts of the checkpoint contradict each other
        Unwritable                    the output cannot be written: disk full, no permission
      Unreachable                     a hub, or the network on the way, does not give what was asked for
      EngineError                     a foreign library failed; its own error is the cause

Each carries `where`, `found`, `expected` and `fix` as fields and survives pickling (pytest-xdist sends errors between
processes).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Q3OmniError(Exception):
    """Base class. `str()` gives one paragraph: where, what was found, what was expected, how to fix it."""

    def __init__(self, found: str, *, where: str = "", expected: str = "", fix: str = "") -> None:
        self.found, self.where, self.expected, self.fix = found, where, expected, fix
        super().__init__(found)

    def __str__(self) -> str:
        text = f"{self.where}: {self.found}" if self.where else self.found
        if self.expected:
            text += f"; expected {self.expected}"
        if self.fix:
            text += f". Fix: {self.fix}"
        return text

    def __reduce__(self) -> tuple[Callable[..., Q3OmniError], tuple[Any, ...]]:
        return _rebuild, (type(self), self.found, self.where, self.expected, self.fix)


def _rebuild(kind: type[Q3OmniError], found: str, where: str, expected: str, fix: str) -> Q3OmniError:
    return kind(found, where=where, expected=expected, fix=fix)


class InvalidRequest(Q3OmniError, ValueError):
    """The request itself is wrong: a bad option, OUT = SRC, an empty selection."""


class UnknownName(InvalidRequest):
    """A name that no file of the registry folder has."""


class NotChatML(InvalidRequest):
    """A prompt without ChatML role markers. The talker needs them; text-only generation does not notice."""


class WeightsNotHeld(InvalidRequest):
    """Weights of a checkpoint on a hub: only its headers, scales and other small tensors are ever fetched."""


class MissingDependency(Q3OmniError, ImportError):
    """A package that this step needs is not installed; `fix` names the extra."""


class FormatError(Q3OmniError, ValueError):
    """Shape, dtype, block size, or values (NaN, Inf) that the number format cannot represent."""


class CalibrationError(Q3OmniError):
    """Calibration ran, but its result must not be used."""


class SamplesFailed(CalibrationError):
    """Conversations that the model could not run, each named with its cause."""


class NonFiniteAmax(CalibrationError):
    """An input amax that is NaN, Inf, zero or missing."""


class CheckpointError(Q3OmniError):
    """A checkpoint that cannot be used."""


class Unreadable(CheckpointError):
    """A file that is missing, truncated, or not what its name says."""


class Incomplete(CheckpointError):
    """Tensors or files are missing."""


class Inconsistent(CheckpointError):
    """Parts of the checkpoint contradict each other."""


class Unwritable(CheckpointError):
    """The output cannot be written: the disk is full, or the directory may not be written."""


class Unreachable(Q3OmniError):
    """A hub does not answer, refuses, or sends something else than was asked for. It says nothing of the checkpoint."""


class EngineError(Q3OmniError):
    """A foreign library failed. Its own exception is `__cause__`."""
