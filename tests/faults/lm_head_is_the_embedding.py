"""lm_head is a copy of the embeddings."""

from pathlib import Path

from _checkpoint_edit import Fault, read, write


def break_(directory: Path) -> None:
    name = "thinker.lm_head.weight"
    write(directory, {name: read(directory, "thinker.model.embed_tokens.weight")})


FAULT = Fault("kept-tensors", "thinker.lm_head.weight", "other stages", break_, alone=False)
