"""The embeddings begin one row too late: every token is its neighbour."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import Fault, read, write


def break_(directory: Path) -> None:
    name = "thinker.model.embed_tokens.weight"
    write(
        directory, {name: np.roll(read(directory, name).view(np.uint16), 1, axis=0).view(read(directory, name).dtype)}
    )


FAULT = Fault("kept-tensors", "thinker.model.embed_tokens.weight", "other stages", break_, alone=False)
