"""The error for a package of an extra that is not installed. One text, so that every reader sees the same remedy."""

from __future__ import annotations

from pytest_q3omni.errors import MissingDependency


def missing_extra(package: str, purpose: str, error: Exception, *, extra: str = "quantize") -> MissingDependency:
    """The error to raise from `error`, the failed import of `package` (the name on the index, with its versions)."""
    return MissingDependency(
        f"{purpose} needs {package}, and it cannot be imported ({type(error).__name__}: {error})",
        expected=f"the packages of the extra '{extra}'",
        fix=f"pip install 'pytest-q3omni[{extra}]'",
    )
