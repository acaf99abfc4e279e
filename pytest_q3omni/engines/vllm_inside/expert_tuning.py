"""The file with tuned settings of the Triton kernel for BF16 experts: which one vLLM looks for, and where it is."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any


def tuned_file(experts: int, width: int) -> tuple[str, Path | None]:
    """Its name, and where it is, None for nowhere. A folder of the user's comes first, as for vLLM itself."""
    fused: Any = importlib.import_module("vllm.model_executor.layers.fused_moe.fused_moe")
    name = str(fused.get_config_file_name(experts, width, None))
    own = os.environ.get("VLLM_TUNED_CONFIG_FOLDER")
    places = [Path(own)] if own else []
    places.append(Path(fused.__file__).parent / "configs")
    return name, next((place / name for place in places if (place / name).is_file()), None)
