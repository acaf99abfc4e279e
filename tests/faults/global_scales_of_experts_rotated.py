"""Every expert of a layer has the global scale of its neighbour."""

from pathlib import Path

from _checkpoint_edit import LAYER, Fault, read, write


def break_(directory: Path) -> None:
    names = [f"{LAYER}.mlp.experts.{expert}.down_proj.weight_scale_2" for expert in range(8)]
    values = [read(directory, name) for name in names]
    write(directory, dict(zip(names, values[1:] + values[:1], strict=True)))


FAULT = Fault("packed-weights", f"{LAYER}.mlp.experts", "scales", break_, alone=False)
