"""The BF16 original under the name of a quantized checkpoint."""

import shutil
from pathlib import Path

from _checkpoint_edit import Fault

from pytest_q3omni.omni.tiny import checkpoint_path


def break_(directory: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(checkpoint_path() / name, directory / name)


FAULT = Fault("quantized-at-all", "model.safetensors", "silent non-quantization", break_)
