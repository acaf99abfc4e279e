"""One expert has codes and no scale at all: vLLM fills in uninitialised memory."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, write


def break_(directory: Path) -> None:
    suffixes = ("weight_scale", "weight_scale_2", "input_scale")
    names = [f"{EXPERT}.{name}_proj.{suffix}" for name in ("gate", "up", "down") for suffix in suffixes]
    write(directory, dict.fromkeys(names))


FAULT = Fault("scales-present", f"{EXPERT}.", "scales", break_)
