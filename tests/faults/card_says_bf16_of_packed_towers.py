"""The towers are packed and declared so, and the card says BF16: a public checkpoint."""

from pathlib import Path

from _checkpoint_edit import Fault, original, pack, write_card

from pytest_q3omni.omni.checkpoint import scan


def break_(directory: Path) -> None:
    modules = [
        name.removesuffix(".weight")
        for name in scan(directory).entries
        if name.endswith((".fc1.weight", ".fc2.weight"))
    ]
    for module in modules:
        pack(directory, module, original(f"{module}.weight"), declare=True, input_scale=0.001)
    write_card(directory, "The audio tower and the vision tower are BF16.")


FAULT = Fault("stage-policy", "thinker.audio_tower.", "card", break_)
