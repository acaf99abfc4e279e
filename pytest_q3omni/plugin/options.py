"""The plugin's options: a flag and an ini twin each. A flag's default is None, so that the ini shows through.

Relative paths of flags are relative to where pytest was started, those of the ini to the root directory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

_Value = TypeVar("_Value")
ORIGINAL, QUANTIZED, RECIPE = "--q3omni-original", "--q3omni-quantized", "--q3omni-recipe"
CONVERSATIONS, CACHE, REPORT = "--q3omni-conversations", "--q3omni-cache", "--q3omni-report"
ENGINE = "--q3omni-engine"
RANDOM, SPEEDUP, MEMORY = "--q3omni-random-weights", "--q3omni-min-speedup", "--q3omni-min-memory-ratio"
_HELP = {
    ORIGINAL: ("DIR", "your BF16 checkpoint (a Hugging Face directory); without it the built-in tiny model is tested"),
    QUANTIZED: ("DIR", "your quantized checkpoint; without it, and with a recipe, the original is quantized once"),
    RECIPE: ("NAME", f"recipe to quantize {ORIGINAL} with, into the cache, where {QUANTIZED} is not given"),
    CONVERSATIONS: ("FILE", "conversations (JSON lines) for W4A4 recipes to calibrate on, and for tests of answers"),
    CACHE: (
        "DIR",
        "where quantized checkpoints are kept between runs (default: the user's cache directory, on Linux "
        "~/.cache/pytest-q3omni): in DIR/checkpoints, one for each source, recipe, calibration data and version of "
        "this package's code. Nothing is removed: one that is no longer used stays until you delete its folder",
    ),
    REPORT: ("FILE", "write what the run judged to FILE: .html to read, .json for machines"),
    ENGINE: (
        "NAME",
        "let the loader of this engine (vllm) judge, too, for the verdict loads; it lives in an environment of its "
        "own, whose interpreter the variable Q3OMNI_ENGINE_PYTHON can name",
    ),
    SPEEDUP: (
        "FACTOR",
        "fail a serving benchmark where the quantized checkpoint decodes less than FACTOR times as fast as the "
        "original; '8=1.2 32=1.5' sets it by the number of requests at once",
    ),
    MEMORY: ("FACTOR", "fail where the original's weights take less than FACTOR times the quantized ones' memory"),
}
_RANDOM_HELP = (
    "serving benchmarks give the engine random weights of the checkpoint's shapes: real speed and memory, meaningless "
    "answers. Of the original, a directory with config.json is enough then; without one, the full-size model's is taken"
)


@dataclass(frozen=True)
class Settings:
    """The options of one run: the flag where one is given, else the ini, else None."""

    original: Path | None
    quantized: Path | None
    recipe: str | None
    conversations: Path | None
    cache: Path | None
    report: Path | None
    engine: str | None
    random_weights: bool
    min_speedup: Mapping[int, float]
    min_memory_ratio: float | None


SETTINGS = pytest.StashKey[Settings]()


def ini_name(flag: str) -> str:
    """`q3omni_original` of `--q3omni-original`."""
    return flag.removeprefix("--").replace("-", "_")


def declare(parser: pytest.Parser) -> None:
    """Add every flag and its ini twin."""
    group = parser.getgroup("q3omni", "Qwen3-Omni checkpoints (pytest-q3omni)")
    for flag, (metavar, text) in _HELP.items():
        group.addoption(flag, metavar=metavar, default=None, help=f"{text}. ini: {ini_name(flag)}")
        parser.addini(ini_name(flag), f"{text}; {flag} wins", default="")
    group.addoption(RANDOM, action="store_true", default=None, help=f"{_RANDOM_HELP}. ini: {ini_name(RANDOM)}")
    parser.addini(ini_name(RANDOM), f"{_RANDOM_HELP}; {RANDOM} wins", type="bool", default=False)


def read(config: pytest.Config) -> Settings:
    """The settings of this run.

    Raises:
        pytest.UsageError: a flag with an empty value, such as an unset shell variable leaves behind.
    """
    return Settings(
        original=_path(config, ORIGINAL),
        quantized=_path(config, QUANTIZED),
        recipe=_text(config, RECIPE)[0] or None,
        conversations=_path(config, CONVERSATIONS),
        cache=_path(config, CACHE),
        report=_path(config, REPORT),
        engine=_text(config, ENGINE)[0] or None,
        random_weights=bool(config.getoption(RANDOM) or config.getini(ini_name(RANDOM))),
        min_speedup=_speedups(_text(config, SPEEDUP)[0]),
        min_memory_ratio=_memory_ratio(_text(config, MEMORY)[0]),
    )


EACH = 0
"""The key of a factor that holds for any number of requests at once."""


def _speedups(text: str) -> dict[int, float]:
    """As `_factors`; a number of requests that no item measures would be a gate that nothing can fail."""
    found = _factors(text)
    if found:
        from pytest_q3omni.serve.throughput import AT_ONCE

        unmeasured = [number for number in found if number not in (EACH, *AT_ONCE)]
        if unmeasured:
            *some, last = map(str, AT_ONCE)
            expected = f"{', '.join(some)} or {last} before the ="
            raise pytest.UsageError(
                f"{SPEEDUP} {text}: expected {expected}: a gate of {unmeasured[0]} at once would judge nothing"
            )
    return found


def _memory_ratio(text: str) -> float | None:
    """Refused at once where no checkpoint can pass: two engines take minutes to load before the gate is asked."""
    found = _factors(text, flag=MEMORY).get(EACH)
    if found is not None and found > 16 / 4.5:
        raise pytest.UsageError(f"{MEMORY} {text}: expected at most 3.55: NVFP4 has 4.5 bits a weight")
    return found


def _factors(text: str, flag: str = SPEEDUP) -> dict[int, float]:
    """`1.2` or `8=1.2 32=1.5`: number of requests at once -> factor."""
    found: dict[int, float] = {}
    for word in text.replace(",", " ").split():
        number, equals, factor = word.rpartition("=")
        try:
            at_once, value = int(number) if equals else EACH, float(factor)
        except ValueError:
            at_once, value = -1, 0.0
        wrong = at_once < EACH or (equals and (at_once == EACH or flag != SPEEDUP)) or at_once in found
        if wrong or not 0 < value < 1e6:
            form = "a factor such as 1.2" + (", or several such as 8=1.2 32=1.5" if flag == SPEEDUP else "")
            raise pytest.UsageError(f"{flag} {text}: expected {form}")
        found[at_once] = value
    return found


def _text(config: pytest.Config, flag: str) -> tuple[str, Path]:
    """The value, "" where there is none, and the directory that a relative path starts from."""
    given: str | None = config.getoption(flag)
    if given is None:
        return str(config.getini(ini_name(flag))).strip(), config.rootpath
    if not given.strip():
        raise pytest.UsageError(f"{flag} is empty: give it a value, or leave it out")
    return given.strip(), config.invocation_params.dir


def _path(config: pytest.Config, flag: str) -> Path | None:
    text, start = _text(config, flag)
    if "://" in text:
        fix = "download it and name its directory (`q3omni verify` judges hf://owner/name from afar)"
        raise pytest.UsageError(f"{flag} {text}: an address; expected a directory. Fix: {fix}")
    return (start / Path(text).expanduser()).absolute() if text else None


def check(config: pytest.Config) -> None:
    """Refuse flags that cannot work, before anything is collected.

    What the ini says is checked where a test needs it: a project's other tests run on machines without the checkpoint.

    Raises:
        pytest.UsageError: names the flag, what was found, and the fix.
    """
    settings = config.stash[SETTINGS]
    if settings.recipe and config.getoption(RECIPE) is not None:
        if settings.original is None:
            raise pytest.UsageError(f"{RECIPE} {settings.recipe} has nothing to quantize: give {ORIGINAL}, too")
        _refuse(RECIPE, _known_recipe, settings.recipe)
    for flag, path in ((ORIGINAL, settings.original), (QUANTIZED, settings.quantized)):
        if path is not None and config.getoption(flag) is not None:
            _refuse(flag, require_checkpoint, path)
    if settings.engine and config.getoption(ENGINE) is not None:
        _refuse(ENGINE, _known_engine, settings.engine)
    if settings.conversations and config.getoption(CONVERSATIONS) is not None and not settings.conversations.is_file():
        raise pytest.UsageError(f"{CONVERSATIONS} {settings.conversations}: no such file; expected JSON lines")
    if settings.report and settings.report.suffix.lower() not in (".html", ".json"):
        raise pytest.UsageError(f"{REPORT} {settings.report}: unknown suffix; expected .html or .json")


def _refuse(flag: str, check: Callable[[_Value], None], value: _Value) -> None:
    from pytest_q3omni.errors import Q3OmniError

    try:
        check(value)
    except Q3OmniError as error:
        raise pytest.UsageError(f"{flag}: {error}") from error


def _known_recipe(name: str) -> None:
    from pytest_q3omni.plan.recipes import recipe

    recipe(name)


def _known_engine(name: str) -> None:
    from pytest_q3omni.engines.engine_python import find_python
    from pytest_q3omni.errors import UnknownName

    if name != "vllm":
        raise UnknownName(f"no engine is called '{name}'", expected="vllm", fix="choose that one")
    find_python()


def require_checkpoint(path: Path) -> None:
    """A directory with a config, or a clear error: a wrong path must not become a skipped test.

    Raises:
        Unreadable: no such directory, or no config.json in it.
    """
    from pytest_q3omni.errors import Unreadable

    expected = "a Hugging Face model directory"
    if not path.is_dir():
        found = "not a directory" if path.exists() else "no such directory"
        raise Unreadable(found, where=str(path), expected=expected, fix="check the path")
    if not (path / "config.json").is_file():
        raise Unreadable("no config.json in it", where=str(path), expected=expected, fix="check the path")
