"""The session-wide store behind the fixtures: which checkpoint an item gets, and the models that are open.

Fixtures are function-scoped doors to it, since a session fixture cannot see an item's markers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from pytest_q3omni.plugin import markers, options
from pytest_q3omni.plugin.options import Settings

if TYPE_CHECKING:
    from pytest_q3omni.engines.handle import ModelHandle
    from pytest_q3omni.omni.conversations import Conversation
    from pytest_q3omni.plugin.serving import Engines

Half = Literal["original", "quantized"]
ENGINES: pytest.StashKey[Engines] = pytest.StashKey()
"""The serving engines of the session, once an item asked for one."""
TINY = Path(__file__).parents[1] / "omni" / "tiny"
TINY_RECIPE = "nvfp4-default"


class Unavailable(Exception):
    """What an item asks for is not given: the reason for its skip, which names the option."""


class Store:
    """Checkpoints and models of one session. `say` tells the user of long work."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self.settings, self._say = settings, say
        self._handles: dict[Path, ModelHandle] = {}
        self._processors: dict[Path, Any] = {}
        self._twins: dict[tuple[Path, str], Path] = {}
        self._closers: list[Callable[[], None]] = []

    def checkpoint(self, half: Half, item: pytest.Item) -> Path:
        """The checkpoint that `item` runs on. A user's half is never mixed with the tiny's.

        Raises:
            Unavailable: the options do not give it.
            Q3OmniError: they do, but it is no checkpoint, or cannot be quantized.
        """
        if markers.is_tiny(item):
            return self._tiny(half)
        if self.settings.original is None and self.settings.quantized is None:
            kind = markers.hardware(item)
            if kind:
                given = f"{options.ORIGINAL} or {options.QUANTIZED}"
                raise Unavailable(f"{kind} items run on your checkpoint: give {given}")
            return self._tiny(half)
        return self._original() if half == "original" else self._quantized()

    def _tiny(self, half: Half) -> Path:
        if half == "original":
            return TINY / "checkpoint"
        return self._twin(TINY / "checkpoint", TINY_RECIPE, record=TINY / "record")

    def _original(self) -> Path:
        if self.settings.original is None:
            raise Unavailable(f"only the quantized half is given: give the original, too, with {options.ORIGINAL}")
        options.require_checkpoint(self.settings.original)
        return self.settings.original

    def _quantized(self) -> Path:
        given, recipe = self.settings.quantized, self.settings.recipe
        if given is not None:
            options.require_checkpoint(given)
            return given
        if recipe is None:
            raise Unavailable(
                f"only the original half is given: give its quantized twin with {options.QUANTIZED}, or a recipe to "
                f"make it with {options.RECIPE}"
            )
        return self._make(self._original(), recipe)

    def _make(self, source: Path, name: str) -> Path:
        from pytest_q3omni.errors import InvalidRequest
        from pytest_q3omni.plan.recipes import recipe

        conversations = self.settings.conversations
        if recipe(name).numerics == "w4a4" and conversations is None:
            raise InvalidRequest(
                f"recipe {name} quantizes activations, and there is nothing to calibrate on", where=str(source),
                expected="conversations (JSON lines)",
                fix=f"give them with {options.CONVERSATIONS}, or a checkpoint with {options.QUANTIZED}",
            )  # fmt: skip
        return self._twin(source, name, conversations=conversations)

    def _twin(self, source: Path, recipe: str, **calibration: Path | None) -> Path:
        """The twin; looked for once per session, since its key reads the headers of every file of the source."""
        from pytest_q3omni.plugin.twins import cache_directory, quantized_twin

        known = self._twins.get((source, recipe))
        if known is None or not known.is_dir():
            cache = cache_directory(self.settings.cache)
            known = self._twins[source, recipe] = quantized_twin(source, recipe, cache, say=self._say, **calibration)
        return known

    def model(self, half: Half, item: pytest.Item) -> ModelHandle:
        """A lazy handle on the checkpoint of `item`; one per checkpoint and session."""
        path = self.checkpoint(half, item)
        if path not in self._handles:
            from pytest_q3omni.engines.handle import ModelHandle

            self._handles[path] = ModelHandle(path)
        return self._handles[path]

    def processor(self, item: pytest.Item) -> Any:
        """The processor of the original checkpoint, or of the quantized one where only that is given."""
        half: Half = "original"
        if not markers.is_tiny(item) and self.settings.original is None and self.settings.quantized is not None:
            half = "quantized"
        path = self.checkpoint(half, item)
        if path not in self._processors:
            from pytest_q3omni.omni.processor import load_processor

            self._processors[path] = load_processor(path)
        return self._processors[path]

    def conversation(self, item: pytest.Item) -> Conversation:
        """The first of the user's conversations; of the tiny model's own, where the item runs on that."""
        from pytest_q3omni.omni.conversations import load_conversations

        file: Path | None = TINY / "conversations" / "conversations.jsonl"
        given = self.settings.original or self.settings.quantized or markers.hardware(item)
        if given and not markers.is_tiny(item):
            file = self.settings.conversations
        if file is None:
            raise Unavailable(f"your checkpoint needs your conversations: give {options.CONVERSATIONS}")
        return load_conversations(file)[0]

    def close_models(self) -> None:
        """Free the memory of every open model and engine; they open again when asked."""
        for handle in self._handles.values():
            handle.close()
        for close in self._closers:
            close()

    def also_close(self, close: Callable[[], None]) -> None:
        """Something else that holds the device's memory."""
        self._closers.append(close)
