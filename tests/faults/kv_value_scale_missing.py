"""One layer has a scale for keys and none for values."""

from pathlib import Path

from _checkpoint_edit import Fault, write


def break_(directory: Path) -> None:
    write(directory, {"thinker.model.layers.1.self_attn.v_proj.v_scale": None})


FAULT = Fault("kv-cache-scales", "thinker.model.layers.1", "scales", break_, base="fp8-kv")
