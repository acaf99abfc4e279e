"""There are KV-cache scales for a third layer, and the model has two."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import Fault, write


def break_(directory: Path) -> None:
    write(
        directory,
        {f"thinker.model.layers.2.self_attn.{name}_proj.{name}_scale": np.array(0.02, np.float32) for name in "kv"},
    )


FAULT = Fault("names", "thinker.model.layers.2", "configuration", break_, base="fp8-kv")
