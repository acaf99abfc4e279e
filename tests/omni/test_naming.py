"""Names taken apart."""

import pytest

from pytest_q3omni.omni.naming import expert_number, in_layer

pytestmark = pytest.mark.tiny


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("thinker.model.layers.3.self_attn.q_proj", ("thinker.model.layers", 3, "self_attn.q_proj")),
        ("thinker.visual.blocks.26", ("thinker.visual.blocks", 26, "")),
        ("talker.code_predictor.model.layers.0.mlp", ("talker.code_predictor.model.layers", 0, "mlp")),
    ],
)
def test_a_layer_is_found_with_its_stack(name: str, parts: tuple[str, int, str]) -> None:
    found = in_layer(name)
    assert found == parts
    assert found.layer == f"{parts[0]}.{parts[1]}"


def test_a_hostile_name_is_taken_apart_in_one_pass() -> None:
    """A megabyte of layers before a line break: tried layer by layer to the end, each time, it would take hours."""
    rest = ".layers.1" * 110_000 + "\nx"
    assert in_layer(f"a{rest}") == ("a.layers", 1, rest.removeprefix(".layers.1."))
    assert in_layer(f"a{'.layers.1x' * 110_000}") is None


@pytest.mark.parametrize("name", ["", "thinker.lm_head", "layers.3", "a.layers.x.b", "a.layers.1234567", "a.layers.3x"])
def test_what_is_in_no_layer(name: str) -> None:
    assert in_layer(name) is None


def test_expert_numbers() -> None:
    assert expert_number("mlp.experts.17.up_proj") == 17
    assert expert_number("mlp.shared_expert.up_proj") is None
    assert expert_number(f"mlp.experts.{'9' * 5000}.up_proj") is None, "too long for an int, and no expert"
