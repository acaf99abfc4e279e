"""What a `quantization_config` claims, asked module by module.

Names are matched as vLLM 0.32 does (`ModelOptQuantConfigBase.is_layer_excluded`): an ignore entry covers a module
that it equals, that it is a *substring* of, or that it matches as a shell pattern, under the name of the fused layer
as well. So `...layers.1` covers layers 10 to 19, too: a trap that the judge must see as the engine does.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import translate
from functools import cached_property

from pytest_q3omni.layouts import Declared
from pytest_q3omni.omni.naming import experts_module, fused_group
from pytest_q3omni.records import Numerics, TensorInfo

_WILD = re.compile(r"[*?\[]")
_STARS = re.compile(r"\*+")
MOST_IGNORED = 30_000
"""Longest ignore list that is read; the full-size model has 28,010 tensors to name."""
MOST_PATTERNS = 1_000
"""Most shell patterns in it that are more than `prefix*`: each one costs a regular expression over all names."""


class Claim:
    """`Declared`, against the modules that the config implies."""

    def __init__(self, declared: Declared, linears: Mapping[str, TensorInfo]) -> None:
        """`linears`: module -> weight of everything that a Linear multiplies by."""
        self.declared, self._linears = declared, linears

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
        """False where the ignore list is too long to be asked about: it may come from anyone."""
        if len(self.declared.ignore) > MOST_IGNORED:
            return False
        return sum(_WILD.search(entry.rstrip("*")) is not None for entry in self.entries) <= MOST_PATTERNS

    @cached_property
    def entries(self) -> tuple[str, ...]:
        """The ignore list, each entry once."""
        return tuple(dict.fromkeys(_STARS.sub("*", entry) for entry in self.declared.ignore))

    def numerics(self, module: str) -> Numerics | None:
        """The numerics declared for a module, None where it stays as it is."""
        if self.by_layer:
            listed = self.declared.modules
            return next((listed[name] for name in parents(module) if name in listed), None)
        return self.declared.everything if module in self._linears and module not in self._ignored else None

    def ignores(self, module: str) -> bool:
        """True where the ignore list covers the module."""
        return module in self._ignored

    def covered(self, entry: str) -> Iterator[str]:
        """The modules that one ignore entry covers."""
        return self._names.matching(entry)

    @cached_property
    def _ignored(self) -> frozenset[str]:
        entries = self.entries if self.short else ()
        return frozenset(module for entry in entries for module in self._names.matching(entry))

    @cached_property
    def _names(self) -> _Names:
        return _Names(self._linears)


def parents(module: str) -> Iterator[str]:
    """The module, then everything it lies in."""
    while module:
        yield module
        module = module.rpartition(".")[0]


def aliases(module: str) -> tuple[str, ...]:
    """The names under which an engine knows a module: its own, the fused layer's, the experts'."""
    return tuple(dict.fromkeys(name for name in (module, fused_group(module), experts_module(module)) if name))


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
