"""An expert's block scales are missing: vLLM takes what is in memory."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, write


def break_(directory: Path) -> None:
    write(directory, {f"{EXPERT}.down_proj.weight_scale": None})


FAULT = Fault("scales-present", f"{EXPERT}.down_proj.weight_scale", "scales", break_)
