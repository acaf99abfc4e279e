"""A whole expert is missing; vLLM loads the others without a word."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, module_tensors, write


def break_(directory: Path) -> None:
    write(
        directory,
        {
            f"{EXPERT}.{p}.{s}": None
            for p in ("gate_proj", "up_proj", "down_proj")
            for s in module_tensors(directory, f"{EXPERT}.{p}")
        },
    )


FAULT = Fault("names", f"{EXPERT}.gate_proj.weight", "other stages", break_)
