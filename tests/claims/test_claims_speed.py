"""Speed.

Upper bounds from bytes and a device's bandwidth (`serve/roofline.py`), and figures of real runs where there are any.
"""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from gpu_runs import RUN, Run, runs
from outcomes import Outcome

from pytest_q3omni.omni.checkpoint import open_checkpoint
from pytest_q3omni.omni.config import read_json
from pytest_q3omni.plan.build import build_plan
from pytest_q3omni.serve.decoder import decoder_of
from pytest_q3omni.serve.hardware import DEVICES
from pytest_q3omni.serve.roofline import predict_decode

pytestmark = pytest.mark.tiny

FULL_SIZE = Path(str(files("pytest_q3omni.omni") / "qwen3_omni_30b_config.json"))
THOR = DEVICES["Jetson AGX Thor"]
GIB = 2**30
PUBLISHED = (61, 81)
"""tok/s of one sequence, Qwen3-30B-A3B on a Thor: jetson-ai-lab's benchmarks.json (precision not stated), and INT4 in
TensorRT Edge-LLM 0.7."""


BATCHES = (1, 64)


@pytest.fixture(scope="module")
def bounds() -> dict[str, dict[int, float]]:
    """Recipe -> sequences at once -> tokens per second that a Thor allows at most, with 256 tokens in each sequence."""
    config = read_json(FULL_SIZE)
    found = {}
    for name in ("bf16", "nvfp4-default", "nvfp4-mlp-weight-only"):
        targets = [target for tensor in build_plan(FULL_SIZE, name).tensors for target in tensor.targets]
        decoder = decoder_of(config, targets)
        found[name] = {
            batch: predict_decode(decoder, THOR, at_once=batch, context=256).tokens_per_second for batch in BATCHES
        }
    return found


def faster(bounds: dict[str, dict[int, float]], recipe: str) -> tuple[float, ...]:
    """How much faster than BF16 a recipe can be at most, for each of `BATCHES`."""
    return tuple(bounds[recipe][batch] / bounds["bf16"][batch] for batch in BATCHES)


def recorded(outcome: Outcome) -> list[Run]:
    """Real runs; their devices go into the row."""
    found = runs()
    for run in found:
        outcome.used(run.device, "")
    return found


def told(run: Run) -> str:
    """`1.12x at 1, 1.70x at 8 on DEVICE (random weights)`."""
    return ", ".join(f"{new / old:.2f}x at {batch}" for batch, old, new in run.decode) + f" on {run.name}"


def test_speedup_of_fp4(outcome: Outcome, bounds: dict[str, dict[int, float]]) -> None:
    """FP4 makes it 7.5x faster."""
    alone, many = faster(bounds, "nvfp4-default")
    found = recorded(outcome)
    seen = f" Measured: {'; '.join(map(told, found))}." if found else ""
    gains = [new / old for run in found for _, old, new in run.decode]
    finding = f"""By the bytes that a step takes, at most {alone:.2f}x for one sequence and {many:.2f}x for
        {BATCHES[1]} at once. What got faster than that was slow for another reason.{seen}"""
    with outcome.refutes(finding):
        assert max([alone, many, *gains]) >= 7.5


def test_weight_only_gain(outcome: Outcome, bounds: dict[str, dict[int, float]]) -> None:
    """Weight-only FP4 of the MLPs makes it 4-5x faster."""
    alone, many = faster(bounds, "nvfp4-mlp-weight-only")
    finding = f"""At most {alone:.2f}x for one sequence, {many:.2f}x for {BATCHES[1]} at once: attention and `lm_head`
        are read in BF16 for every token."""
    with outcome.refutes(finding):
        assert max(alone, many) >= 4


def test_bf16_speed_of_thor(outcome: Outcome, bounds: dict[str, dict[int, float]]) -> None:
    """A Thor decodes BF16 at 1.3 tok/s."""
    bound = bounds["bf16"][1]
    assert bound > 1.3
    finding = f"""Its memory allows {bound:.0f} tok/s (predicted): 1.3 is {1.3 / bound:.0%} of that, and then it is not
        the size of the weights that is in the way."""
    outcome.open(finding, needs=f"a Thor: {RUN.format(marker='thor')}.")


def test_fp4_speed_of_thor(outcome: Outcome, bounds: dict[str, dict[int, float]]) -> None:
    """A Thor decodes FP4 at 9-10 tok/s."""
    bound = bounds["nvfp4-default"][1]
    assert bound > 10
    finding = f"""Its memory allows {bound:.0f} tok/s (predicted); {PUBLISHED[0]} to {PUBLISHED[1]} are published for
        Qwen3-30B-A3B, a model of these sizes. 9-10 is no goal."""
    outcome.open(finding, needs=f"a Thor: {RUN.format(marker='thor')}.")


def test_memory_when_served(outcome: Outcome) -> None:
    """66 GB on disk are 16 GB in the GPU, four times less."""
    sized = [(run, *run.weight_bytes) for run in recorded(outcome) if run.weight_bytes]
    if not sized:
        outcome.open("No run on a GPU is recorded here.", needs=f"{RUN.format(marker='gpu')}.")
        return
    shown = "; ".join(
        f"{old / GIB:.2f} GiB in BF16, {new / GIB:.2f} GiB packed, {old / new:.2f}x, on {run.name}"
        for run, old, new in sized
    )
    finding = f"What vLLM loads (no talker, no code2wav) takes {shown}. A BF16 file stays BF16 in memory."
    with outcome.refutes(finding):
        assert max(old / new for _, old, new in sized) >= 4


def test_thors_tflops(outcome: Outcome, packed: Path) -> None:
    """A Thor's 2070 TFLOPs speed it up."""
    checkpoint = open_checkpoint(packed)
    name = "thinker.model.layers.0.mlp.experts.0.down_proj.weight"
    codes = checkpoint.read(name)
    values = np.stack([codes & 7, (codes >> 4) & 7], axis=-1).reshape(-1, 4)  # a sign does not make a zero
    sparse = float(((values == 0).sum(axis=1) >= 2).mean())
    assert THOR.fp4 is not None
    finding = f"""That counts 2:4 sparsity, two zeros in every four weights: {sparse:.0%} of the fours in an expert's
        packed weights have them. Dense it is {THOR.fp4 / 1e12:.0f}. A sequence alone is bound by memory anyway."""
    with outcome.refutes(finding):
        assert THOR.fp4 >= 2070e12
        assert sparse == 1
