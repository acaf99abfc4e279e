"""One layer has no scales for keys and values, in compressed-tensors' layout."""

from pathlib import Path

from _checkpoint_edit import Fault, write


def break_(directory: Path) -> None:
    write(directory, {f"thinker.model.layers.0.self_attn.{name}_scale": None for name in "kv"})


FAULT = Fault("kv-cache-scales", "thinker.model.layers.0", "scales", break_, base="ct-fp8-kv")
