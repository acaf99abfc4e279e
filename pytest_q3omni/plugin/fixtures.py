"""The fixtures: doors to the store. What cannot be had is a skip that names the option, or an error in one line."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pytest_q3omni.errors import Q3OmniError
from pytest_q3omni.plugin.store import Store, Unavailable

if TYPE_CHECKING:
    from pytest_q3omni.engines.handle import ModelHandle
    from pytest_q3omni.omni.conversations import Conversation

_Wanted = TypeVar("_Wanted")
STORE = pytest.StashKey[Store]()


@pytest.fixture
def original_checkpoint(request: pytest.FixtureRequest) -> Path:
    """Directory of the BF16 checkpoint: --q3omni-original, or the built-in tiny model's."""
    return _ask(request, lambda store: store.checkpoint("original", request.node))


@pytest.fixture
def quantized_checkpoint(request: pytest.FixtureRequest) -> Path:
    """Directory of the quantized checkpoint: --q3omni-quantized, made with --q3omni-recipe, or the tiny model's."""
    return _ask(request, lambda store: store.checkpoint("quantized", request.node))


@pytest.fixture
def original_model(request: pytest.FixtureRequest) -> ModelHandle:
    """The original as a lazy handle: .path, .config, .generate(conversation), .logprobs(conversation), .loaded()."""
    _need_transformers()
    return _ask(request, lambda store: store.model("original", request.node))


@pytest.fixture
def quantized_model(request: pytest.FixtureRequest) -> ModelHandle:
    """The quantized checkpoint as a lazy handle, run on transformers in the file's numerics (.numerics says which)."""
    _need_transformers()
    return _ask(request, lambda store: store.model("quantized", request.node))


@pytest.fixture
def omni_processor(request: pytest.FixtureRequest) -> Any:
    """The processor of the checkpoint under test: tokenizer, chat template, image and audio features."""
    _need_transformers()
    return _ask(request, lambda store: store.processor(request.node))


@pytest.fixture
def conversation(request: pytest.FixtureRequest) -> Conversation:
    """A conversation to ask the model: the first of --q3omni-conversations, or of the tiny model's own."""
    return _ask(request, lambda store: store.conversation(request.node))


def _ask(request: pytest.FixtureRequest, question: Callable[[Store], _Wanted]) -> _Wanted:
    try:
        return question(request.config.stash[STORE])
    except Unavailable as reason:
        skip, text = True, str(reason)
    except Q3OmniError as error:
        skip, text = False, str(error)
    if skip:  # outside the handlers: what is raised there shows the error that it replaces, too
        pytest.skip(text)
    pytest.fail(text, pytrace=False)


def _need_transformers() -> None:
    absent = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if absent:
        pytest.skip(f"needs {' and '.join(absent)}: pip install 'pytest-q3omni[quantize]'")
