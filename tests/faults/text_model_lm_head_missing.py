"""A text model has no lm_head, and its embeddings are not tied."""

from pathlib import Path

from _checkpoint_edit import Fault, write


def break_(directory: Path) -> None:
    write(directory, {"lm_head.weight": None})


FAULT = Fault("names", "lm_head.weight", "other stages", break_, base="qwen3-moe")
