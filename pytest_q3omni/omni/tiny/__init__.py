"""A tiny Qwen3-Omni that was trained, as package data: about two million parameters, 4 MB.

It has all stages of the full-size model (thinker with audio tower and vision tower, talker with code predictor,
code2wav) in the hub's file layout, and it answers exactly: two-letter keys with two letters, tones with a letter,
two-coloured pictures with two letters, and it speaks its answers in codes that follow from the text. Damaged weights
give wrong answers. `checkpoint/README.md` says what it knows; `tests/tiny/recipe` in the repository trains it.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["checkpoint_path", "conversations_path", "record_path"]


def checkpoint_path() -> Path:
    """The folder of the checkpoint: `config.json`, `model.safetensors` (bfloat16), tokenizer and processor."""
    return Path(__file__).with_name("checkpoint")


def conversations_path() -> Path:
    """Sixty conversations that the model can answer, as JSON lines, with their pictures and sounds beside them."""
    return Path(__file__).with_name("conversations") / "conversations.jsonl"


def record_path() -> Path:
    """The calibration record of those conversations for recipe `nvfp4-default`: packing needs no torch with it."""
    return Path(__file__).with_name("record")
