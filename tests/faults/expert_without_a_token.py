"""No calibration token reached an expert."""

from pathlib import Path

from _checkpoint_edit import EXPERT, LAYER, Fault, edit_record

from pytest_q3omni.calibrate.record import load_record


def break_(directory: Path) -> None:
    tokens = load_record(directory / "q3omni").expert_tokens
    changed = {
        modality: {
            layer: tuple(0 if layer.startswith(LAYER) and expert == 3 else count for expert, count in enumerate(counts))
            for layer, counts in layers.items()
        }
        for modality, layers in tokens.items()
    }
    edit_record(directory, expert_tokens=changed)


FAULT = Fault("expert-coverage", f"{EXPERT}", "calibration", break_)
