"""gate and up of an expert packed alone, as model_free_ptq does: each right, together wrong."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, original, pack


def break_(directory: Path) -> None:
    for projection in ("gate_proj", "up_proj"):
        pack(directory, f"{EXPERT}.{projection}", original(f"{EXPERT}.{projection}.weight"))


FAULT = Fault("shared-scales", f"{EXPERT}.", "scales", break_)
