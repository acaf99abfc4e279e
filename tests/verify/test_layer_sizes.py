"""Sizes by layer: they sum to the stages', stand in the order of the flow, and say what each layer is stored in."""

from pathlib import Path

import pytest
from sound_checkpoints import SoundCheckpoint, judged

from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.records import Facts, StageSize
from pytest_q3omni.verify.judge import judge

pytestmark = pytest.mark.tiny


def total(sizes: list[StageSize]) -> tuple[int, int, int, int]:
    parts = [(size.parameters, size.source_bytes, size.tensor_bytes, size.packed_parameters) for size in sizes]
    return tuple(map(sum, zip(*parts, strict=True)))


def bits(facts: Facts, layer: str) -> float:
    size = facts.layers[layer]
    return 8 * size.tensor_bytes / size.parameters


@pytest.mark.parametrize("given", [(), ("source",)])
def test_layers_sum_to_the_stages(given: tuple[str, ...], sound: SoundCheckpoint) -> None:
    facts = judged(sound("nvfp4-default"), given).facts
    for stage, prefix in (
        ("thinker", "thinker."),
        ("code_predictor", "talker.code_predictor"),
        ("code2wav", "code2wav."),
    ):
        own = [size for name, size in facts.layers.items() if name.startswith(prefix)]
        assert total(own) == total([facts.stages[stage]]), stage
    assert total(list(facts.layers.values())) == total(list(facts.stages.values()))


def test_packed_layers_have_few_bits_and_the_others_16(sound: SoundCheckpoint) -> None:
    facts = judged(sound("nvfp4-default"), ()).facts
    assert 4.5 < bits(facts, "thinker.model.layers.1") < 4.7
    assert bits(facts, "talker.model.layers.0") == bits(facts, "thinker.lm_head") == 16
    assert facts.layers["thinker.model.layers.1"].packed_parameters > 0


def test_layers_follow_the_flow() -> None:
    layers = list(judge(Path(checkpoint_path())).facts.layers)
    stages = [name.partition(".")[0] for name in layers]
    assert list(dict.fromkeys(stages)) == ["thinker", "talker", "code2wav"]
    assert layers.index("thinker.model.layers.0") + 1 == layers.index("thinker.model.layers.1")
