"""One layer has no scales for keys and values; engines take 1."""

from pathlib import Path

from _checkpoint_edit import Fault, write


def break_(directory: Path) -> None:
    attention = "thinker.model.layers.1.self_attn"
    write(directory, {f"{attention}.k_proj.k_scale": None, f"{attention}.v_proj.v_scale": None})


FAULT = Fault("kv-cache-scales", "thinker.model.layers.1", "scales", break_, base="fp8-kv")
