"""ModelOpt on the tiny model, as the investigation called it: what several tests of claims start from."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from typing import Any

import torch

from pytest_q3omni.engines.modelopt import load_modelopt, without_conv3d
from pytest_q3omni.engines.transformers import conversation_inputs, load_model, thinker_step
from pytest_q3omni.omni.conversations import load_conversations
from pytest_q3omni.omni.processor import load_processor
from pytest_q3omni.omni.tiny import checkpoint_path, conversations_path

Loop = Callable[[Any], None]
PACKAGES = ("nvidia-modelopt", "transformers")


@cache
def samples() -> list[dict[str, Any]]:
    """The built-in conversations, sixty as the investigation's, as the model's inputs."""
    processor = load_processor(checkpoint_path())
    return [conversation_inputs(processor, each) for each in load_conversations(conversations_path())]


def fresh() -> Any:
    """The tiny model with all its stages, unquantized."""
    return load_model(checkpoint_path(), speech=True)


def quantized(config: Any, loop: Loop | None = None) -> Any:
    """A fresh model with ModelOpt's quantizers; config: its name in ModelOpt, or a config."""
    quantization = load_modelopt()
    chosen = getattr(quantization, config) if isinstance(config, str) else config
    with without_conv3d(quantization), redirect_stdout(io.StringIO()):
        return quantization.quantize(fresh(), chosen, loop)


class TheirLoop:
    """The investigation's calibration loop: `model(**inputs)`, and an error is a warning. Counts the errors."""

    def __init__(self) -> None:
        self.failed = self.ran = 0
        self.errors: set[str] = set()

    def __call__(self, model: Any) -> None:
        for inputs in samples():
            self.ran += 1
            try:
                with torch.inference_mode():
                    model(**inputs)
            except Exception as error:  # noqa: BLE001  # as theirs did
                self.failed += 1
                self.errors.add(f"{type(error).__name__}: {error}")


def working_loop(model: Any) -> None:
    """The same samples through the thinker, which has a forward."""
    with torch.inference_mode():
        for inputs in samples():
            thinker_step(model, inputs)


def quantizers(model: Any) -> dict[str, Any]:
    """Name -> quantizer, enabled or not."""
    from modelopt.torch.quantization.nn import TensorQuantizer

    return {name: module for name, module in model.named_modules() if isinstance(module, TensorQuantizer)}


def enabled(model: Any) -> set[str]:
    return {name for name, quantizer in quantizers(model).items() if quantizer.is_enabled}
