"""One expert got every token of every conversation: routing was broken while calibrating."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_record

from pytest_q3omni.calibrate.record import load_record


def break_(directory: Path) -> None:
    tokens = load_record(directory / "q3omni").expert_tokens
    one = {
        kind: {layer: (sum(c), *(0 for _ in c[1:])) for layer, c in layers.items()} for kind, layers in tokens.items()
    }
    edit_record(directory, expert_tokens=one)


FAULT = Fault("expert-coverage", ".mlp.experts.", "calibration", break_)
