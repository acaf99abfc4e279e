"""Decoders for the tests of the roofline: the full-size config under each recipe, and the built-in tiny model."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest_q3omni
from pytest_q3omni.omni.config import read_json
from pytest_q3omni.plan.build import build_plan
from pytest_q3omni.records import TensorInfo
from pytest_q3omni.serve.decoder import Decoder, decoder_of

FULL = Path(pytest_q3omni.__file__).parent / "omni" / "qwen3_omni_30b_config.json"


@cache
def full_config() -> dict[str, Any]:
    return read_json(FULL)


@cache
def full_tensors(recipe: str, layout: str = "modelopt") -> tuple[TensorInfo, ...]:
    plan = build_plan(FULL, recipe, layout_name=layout)
    return tuple(target for tensor in plan.tensors for target in tensor.targets)


@cache
def full_decoder(recipe: str, layout: str = "modelopt") -> Decoder:
    return decoder_of(full_config(), full_tensors(recipe, layout))
