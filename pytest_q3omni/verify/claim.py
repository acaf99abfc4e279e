"""What a `quantization_config` claims, asked module by module.

Names are matched as vLLM 0.32 does. ModelOpt's (`ModelOptQuantConfigBase.is_layer_excluded`): an ignore entry covers a
module that it equals, that it is a *substring* of, or that it matches as a shell pattern, under the name of the fused
layer as well. So `...layers.1` covers layers 10 to 19, too: a trap that the judge must see as the engine does.
compressed-tensors' (`should_ignore_layer`): whole names, or after `re:` a regular expression that matches from the
start. Expressions come from a stranger and may take for ever, so they get a time limit, which `re` does not have.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import translate
from functools import cached_property
from math import prod
from time import monotonic
from warnings import catch_warnings

import regex

from pytest_q3omni.layouts import Declared
from pytest_q3omni.omni.naming import experts_module, fused_group
from pytest_q3omni.records import Scheme, TensorInfo

_WILD = re.compile(r"[*?\[]")
_STARS = re.compile(r"\*+")
MOST_IGNORED = 30_000
"""Longest ignore list that is read; the full-size model has 28,010 tensors to name."""
MOST_PATTERNS = 1_000
"""Most patterns in it that are more than `prefix*`: each one costs a regular expression over all names."""
SECONDS = 10.0
"""Time that all regular expressions of one config get; those of sound configs take some 0.02 s each at full size."""
_SECONDS_A_NAME = 0.5  # an expression that takes longer on one name backtracks without end
_REGEX = "re:"
_LONGEST = 2_000  # characters of an expression
_COUNTS = re.compile(r"\{[^}]*?(\d{1,9})\D*\}")
_MOST_REPEATS = 10_000  # all counts of an expression multiplied: each one is written out when it is compiled


class Claim:
    """`Declared`, against the modules that the config implies."""

    def __init__(self, declared: Declared, linears: Mapping[str, TensorInfo]) -> None:
        """`linears`: module -> weight of everything that a Linear multiplies by."""
        self.declared, self._linears = declared, linears
        self.refused = "", ""  # the expression that is none or takes too long, and why
        self._schemes: dict[str, Scheme | None] = {}
        self._parents: dict[str, Scheme | None] = {}

    @property
    def by_layer(self) -> bool:
        """True where the packed layers are listed, false where everything but the ignored ones is declared packed."""
        return self.declared.everything is None

    @property
    def usable(self) -> bool:
        """False where a fault of the block leaves open what it declares: the storage is not judged by it then."""
        return self.short and all(where.startswith("quantized_layers.") for where, *_ in self.declared.faults)

    @cached_property
    def short(self) -> bool:
        """False where the patterns are too many, too slow or none at all: they may come from anyone."""
        if len(self.declared.ignore) > MOST_IGNORED:
            return False
        patterns = [entry for entry in (*self.entries, *self._targets) if self._is_pattern(entry)]
        if len(patterns) > MOST_PATTERNS or max(map(len, patterns), default=0) > _LONGEST:
            return False
        return self.declared.language == "patterns" or self._matched is not None

    def _is_pattern(self, entry: str) -> bool:
        if self.declared.language == "names":
            return entry.startswith(_REGEX)
        return _WILD.search(entry.rstrip("*")) is not None

    @cached_property
    def entries(self) -> tuple[str, ...]:
        """The ignore list, each entry once."""
        if self.declared.language == "names":
            return tuple(dict.fromkeys(self.declared.ignore))
        return tuple(dict.fromkeys(_STARS.sub("*", entry) for entry in self.declared.ignore))

    @property
    def _targets(self) -> tuple[str, ...]:
        return tuple(entry for entry, _ in self.declared.targets)

    def scheme(self, module: str) -> Scheme | None:
        """How a module is declared to be quantized, None where it stays as it is."""
        if module not in self._schemes:
            self._schemes[module] = self._scheme(module)
        return self._schemes[module]

    def _scheme(self, module: str) -> Scheme | None:
        if self.declared.language == "names":
            return None if module in self._ignored else self._targeted.get(module) or self._every(module)
        if self.by_layer:
            return self._listed(module)
        return None if module in self._ignored else self._every(module)

    def _listed(self, name: str) -> Scheme | None:
        """What is said of a name, or else of what it lies in; parents are asked once, since modules share them."""
        found = self.declared.modules.get(name)
        parent = name.rpartition(".")[0]
        if found is not None or not parent:
            return found
        if parent not in self._parents:
            self._parents[parent] = next((s for p in parents(parent) if (s := self.declared.modules.get(p))), None)
        return self._parents[parent]

    def _every(self, module: str) -> Scheme | None:
        return self.declared.everything if module in self._linears else None

    @cached_property
    def _targeted(self) -> Mapping[str, Scheme]:
        """Module -> scheme, where a target names it; the first one decides."""
        found: dict[str, Scheme] = {}
        for entry, scheme in self.declared.targets if self.short else ():
            for module in self.covered(entry):
                found.setdefault(module, scheme)
        return found

    def ignores(self, module: str) -> bool:
        """True where the ignore list covers the module."""
        return module in self._ignored

    def covered(self, entry: str) -> Iterator[str]:
        """The modules that one entry of the ignore list, or one target, covers."""
        if self.declared.language == "patterns":
            return self._names.matching(entry)
        return iter((self._matched or {}).get(entry, ()))

    @cached_property
    def _ignored(self) -> frozenset[str]:
        entries = self.entries if self.short else ()
        return frozenset(module for entry in entries for module in self.covered(entry))

    @cached_property
    def _names(self) -> _Names:
        return _Names(self._linears)

    @cached_property
    def _matched(self) -> Mapping[str, tuple[str, ...]] | None:
        """Entry -> modules, in the language "names"; None where an expression is none, or all together take too long.

        A whole name also covers the experts of a layer, which engines know by one name.
        """
        matched: dict[str, tuple[str, ...]] = {}
        named: dict[str, list[str]] = defaultdict(list)
        for module in self._linears:
            for alias in {module, experts_module(module) or module}:
                named[alias].append(module)
        deadline = monotonic() + SECONDS
        for entry in (*self.entries, *self._targets):
            if not entry.startswith(_REGEX):
                matched[entry] = tuple(named.get(entry, ()))
                continue
            try:
                matched[entry] = tuple(_matches(entry.removeprefix(_REGEX), self._linears, deadline))
            except (regex.error, TimeoutError, RecursionError, MemoryError) as error:
                told = "takes too long" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
                self.refused = entry, told
                return None
        return matched


def _matches(expression: str, modules: Iterable[str], deadline: float) -> Iterator[str]:
    """The modules that an expression matches from their start.

    Raises:
        TimeoutError: it takes longer than any sound one on one name, or the time of all expressions is over.
        regex.error, RecursionError: as `_compiled`.
    """
    pattern = _compiled(expression)
    for module in modules:
        left = deadline - monotonic()
        if left <= 0:
            raise TimeoutError
        if pattern.match(module, timeout=min(left, _SECONDS_A_NAME)):
            yield module


def _compiled(expression: str) -> regex.Pattern[str]:
    """The expression of a stranger, if it is of sane size.

    Raises:
        regex.error, RecursionError: it is no expression, or too long, nested too deep, or repeats too often.
    """
    if len(expression) > _LONGEST:
        raise regex.error("too long")
    if prod(max(1, int(count)) for count in _COUNTS.findall(expression)) > _MOST_REPEATS:
        raise regex.error("repeats too often")
    with catch_warnings(action="ignore"):
        try:
            re.compile(expression)  # as engines do: `regex` knows more, such as recursion
        except (re.error, OverflowError) as error:
            raise regex.error(str(error)) from error
        return regex.compile(expression)


def parents(module: str) -> Iterator[str]:
    """The module, then everything it lies in."""
    while module:
        yield module
        module = module.rpartition(".")[0]


def aliases(module: str) -> tuple[str, ...]:
    """The names under which an engine knows a module: its own, the fused layer's, the experts'."""
    fused, experts = fused_group(module), experts_module(module)
    names = (module,) if fused == module else (module, fused)
    return (*names, experts) if experts else names


class _Names:
    """All aliases of all modules as one text, a line each: one search of the text instead of one for every module."""

    def __init__(self, modules: Iterable[str]) -> None:
        lines: dict[str, list[str]] = defaultdict(list)
        for module in modules:
            for alias in aliases(module):
                lines[alias].append(module)
        self._text = "".join(f"\n{alias}" for alias in lines)
        self._modules = list(lines.values())
        self._starts = [0]  # of the newlines
        for alias in lines:
            self._starts.append(self._starts[-1] + len(alias) + 1)

    def matching(self, entry: str) -> Iterator[str]:
        """The modules that an ignore entry covers, some more than once."""
        if not entry or "\n" in entry or not self._modules:
            return
        for position in self._positions(entry):
            yield from self._modules[bisect_right(self._starts, position) - 1]

    def _positions(self, entry: str) -> Iterator[int]:
        prefix = entry.rstrip("*")
        if _WILD.search(prefix):
            return self._wild(entry)
        return self._literal(entry if prefix == entry else f"\n{prefix}")

    def _literal(self, entry: str) -> Iterator[int]:
        position = self._text.find(entry)
        while position >= 0:
            yield position
            end = self._text.find("\n", position + 1)
            position = -1 if end < 0 else self._text.find(entry, end)

    def _wild(self, entry: str) -> Iterator[int]:
        body = translate(entry).removeprefix("(?s:").removesuffix(r")\Z")
        pattern = re.compile(f"^(?:{body})$", re.MULTILINE)
        return (match.start() for match in pattern.finditer(self._text, 1))
