"""The input scale of the experts is 100 times too small, and no record is at hand."""

from pathlib import Path

from _checkpoint_edit import LAYER, Fault, scaled


def break_(directory: Path) -> None:
    names = [
        f"{LAYER}.mlp.experts.{expert}.{name}.input_scale" for expert in range(8) for name in ("gate_proj", "up_proj")
    ]
    scaled(directory, names, 1 / 100)


FAULT = Fault("input-scale-range", f"{LAYER}.mlp.experts.0.gate_proj.input_scale", "scales", break_, given=("source",))
