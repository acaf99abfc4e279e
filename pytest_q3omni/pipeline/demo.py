"""Demo: the whole way on the built-in tiny model, with nothing to download and nothing to configure."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from pytest_q3omni.engines.device import one_thread
from pytest_q3omni.errors import InvalidRequest
from pytest_q3omni.omni.conversations import load_conversations
from pytest_q3omni.omni.durable import unwritable
from pytest_q3omni.omni.tiny import checkpoint_path, conversations_path
from pytest_q3omni.parity.verdict import with_parity
from pytest_q3omni.pipeline.parity import compare_checkpoints
from pytest_q3omni.pipeline.quantize import quantize_checkpoint
from pytest_q3omni.records import Progress, Quantized, no_progress

_MADE = ("original", "quantized")
_NEW = ".new"  # an earlier demo stays until this one is done
_MARK = ".q3omni-demo"  # tells our own directory from somebody's
RECIPE = "nvfp4-default"


def run_demo(out: Path, *, progress: Progress = no_progress) -> Quantized:
    """Plan, calibrate, pack and verify the tiny model in `out`, and compare its answers with the original's.

    A second run replaces only what the first made.

    Raises:
        InvalidRequest: `out` holds something that no demo made.
    """
    if out.exists() and not (out / _MARK).exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidRequest(
            "holds something else",
            where=str(out),
            expected="a new directory, or an earlier demo's",
            fix="choose another --out",
        )
    new = out / _NEW
    try:
        new.mkdir(parents=True, exist_ok=True)
        (out / _MARK).touch()
        shutil.rmtree(new)  # what a killed demo left
        shutil.copytree(checkpoint_path(), new / "original")
        with one_thread():
            made = quantize_checkpoint(
                new / "original", new / "quantized", RECIPE, conversations=conversations_path(), progress=progress
            )
        for name in _MADE:
            shutil.rmtree(out / name, ignore_errors=True)
            (new / name).rename(out / name)
    except OSError as error:
        raise unwritable(error, out) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    original, quantized = out / "original", out / "quantized"
    with one_thread():
        parity = compare_checkpoints(original, quantized, load_conversations(conversations_path()), progress=progress)
    judgement = with_parity(replace(made.judgement, checkpoint=str(quantized)), parity)
    return replace(made, judgement=judgement, parity=parity)
