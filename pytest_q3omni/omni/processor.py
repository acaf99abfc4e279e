"""Loading a checkpoint's own processor: tokenizer, chat template, and what turns pictures and sound into features."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_q3omni.errors import Incomplete, Inconsistent, Unreadable
from pytest_q3omni.omni.checkpoint import CONFIG
from pytest_q3omni.omni.config import read_json
from pytest_q3omni.omni.extras import missing_extra

CLASS = "Qwen3OmniMoeProcessor"
_FIX = "copy the tokenizer, preprocessor and chat template files from the original model"
_FILES = (
    ("tokenizer_config.json",),
    ("tokenizer.json", "vocab.json"),
    ("preprocessor_config.json", "processor_config.json"),  # the hub's files, transformers 5's own
)
"""Each of these, one file of the group is enough."""


def load_processor(path: Path) -> Any:
    """The `Qwen3OmniMoeProcessor` of a checkpoint directory; nothing is downloaded, no code of the checkpoint runs.

    Raises:
        MissingDependency: transformers or torchvision is not installed.
        Incomplete: a file of the processor, or the chat template, is missing.
        Unreadable, Inconsistent: a file is damaged, or belongs to another processor.
    """
    try:
        from transformers import AutoProcessor
    except ImportError as error:
        raise missing_extra("transformers>=5.16,<5.20", "running the model", error) from error

    _check_files(path)
    try:
        with quiet():
            processor = AutoProcessor.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except ImportError as error:
        raise missing_extra("torchvision", "Qwen3-Omni's processor", error) from error
    except Exception as error:  # whatever a foreign library raises; tokenizers raises `Exception` itself
        text = " ".join(f"{type(error).__name__}: {error}".split())
        found = f"the processor cannot be loaded ({text})"
        raise Unreadable(found, where=str(path), expected=f"the files of a {CLASS}", fix=_FIX) from error
    if type(processor).__name__ != CLASS:
        found = f"the files belong to a {type(processor).__name__}"
        raise Inconsistent(found, where=str(path), expected=CLASS, fix=_FIX)
    if not processor.chat_template:
        expected = "chat_template.json or chat_template.jinja"
        raise Incomplete("no chat template", where=str(path), expected=expected, fix=_FIX)
    return processor


def _check_files(path: Path) -> None:
    read_json(path / CONFIG)  # transformers picks the classes by it
    for group in _FILES:
        if not any((path / name).is_file() for name in group):
            raise Incomplete(f"no {' or '.join(group)}", where=str(path), expected=f"the files of a {CLASS}", fix=_FIX)


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and its warnings: about fields of the hub's configs, and stages left out."""
    from transformers.utils import logging as chatter

    level, bars = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    chatter.set_verbosity(logging.CRITICAL)
    chatter.disable_progress_bar()
    try:
        yield
    finally:
        chatter.set_verbosity(level)
        if bars:
            chatter.enable_progress_bar()


def sampling_rate(processor: Any) -> int:
    """Hz that the model hears at: 16000."""
    return int(processor.feature_extractor.sampling_rate)
