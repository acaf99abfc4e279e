"""Real GPU runs, from `docs/results/*.json` as `docs/results.py` distils them; none where nobody has run one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "docs" / "results"
RUN = "`pytest --pyargs pytest_q3omni.conformance -m {marker} --benchmark-only` with both checkpoints at full size"
"""What makes such a file, together with `python docs/results.py RUN.json`."""


@dataclass(frozen=True)
class Run:
    """Both checkpoints on one device. decode: (sequences at once, BF16 tok/s, packed tok/s); weight_bytes: in its
    memory, (BF16, packed), None where the engine does not say.
    """

    device: str
    random_weights: bool
    decode: tuple[tuple[int, float, float], ...]
    weight_bytes: tuple[int, int] | None

    @property
    def name(self) -> str:
        return f"{self.device}{' (random weights)' if self.random_weights else ''}"


def runs(directory: Path = RESULTS) -> list[Run]:
    """All that are recorded, by file name. A device where only answers were compared was not timed."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(directory.glob("*.json"))]
    return [_run(told) for told in found if "points" in told]


def _run(told: dict[str, Any]) -> Run:
    rates = (point for point in told["points"] if point["kind"] == "decode")
    decode = tuple((rate["at_once"], rate["original"]["figure"], rate["quantized"]["figure"]) for rate in rates)
    original, quantized = (told[half].get("weight_bytes") for half in ("original", "quantized"))
    sizes = (original, quantized) if original and quantized else None
    return Run(told["device"], told["weights"] != "real", decode, sizes)
