"""What assertions are given: checkpoints in any form, and bounds that could be wrong."""

from __future__ import annotations

import math
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Protocol

from pytest_q3omni.errors import InvalidRequest
from pytest_q3omni.records import CalibrationRecord

RECIPES = "`q3omni plan` says what recipes reach"


class HasPath(Protocol):
    """A model handle, for instance."""

    @property
    def path(self) -> Path: ...


AnyCheckpoint = str | PathLike[str] | HasPath
AnyRecord = AnyCheckpoint | CalibrationRecord


def path_of(checkpoint: AnyCheckpoint) -> Path:
    """The checkpoint's directory."""
    return Path(checkpoint) if isinstance(checkpoint, str | PathLike) else Path(checkpoint.path)


def optional_path(checkpoint: AnyCheckpoint | None) -> Path | None:
    """The checkpoint's directory, where one is given."""
    return None if checkpoint is None else path_of(checkpoint)


def place_of(given: AnyRecord) -> object:
    """How a message calls what was judged."""
    return "calibration record" if isinstance(given, CalibrationRecord) else path_of(given)


def device_of(checkpoint: AnyCheckpoint) -> str | None:
    """Where a model handle runs; None of a path."""
    return getattr(checkpoint, "device", None)


def checked_bound(name: str, value: object, *, most: float, why: str, fix: str = RECIPES) -> float:
    """A bound in (0, most]; anything else would pass or fail whatever the checkpoint is."""
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not (0 < number <= most and math.isfinite(number)):
        expected = f"a number above 0{f', at most {most:g}' if math.isfinite(most) else ''} ({why})"
        raise InvalidRequest(f"{name}={value!r}", expected=expected, fix=fix)
    return number


def whole(name: str, value: object) -> int:
    """A whole number above 0."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise InvalidRequest(f"{name}={value!r}", expected="a whole number above 0", fix="leave it out for the default")
    return int(value)
