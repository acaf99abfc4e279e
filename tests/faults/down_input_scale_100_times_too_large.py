"""The input scale of the experts' second projection is 100 times too large, and no record is at hand."""

from pathlib import Path

from _checkpoint_edit import LAYER, Fault, scaled


def break_(directory: Path) -> None:
    names = [f"{LAYER}.mlp.experts.{expert}.down_proj.input_scale" for expert in range(8)]
    scaled(directory, names, 100)


FAULT = Fault("input-scale-range", f"{LAYER}.mlp.experts.0.down_proj.input_scale", "scales", break_, given=("source",))
