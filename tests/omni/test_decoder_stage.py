"""Text models and thinkers exported alone: the names and shapes that transformers gives them."""

from typing import Any

import pytest

from pytest_q3omni.errors import Inconsistent
from pytest_q3omni.omni.checkpoint import open_checkpoint
from pytest_q3omni.omni.stages import expected_tensors, implied_tensors, stage_of
from pytest_q3omni.omni.tiny import checkpoint_path

pytestmark = pytest.mark.tiny

TEXT: dict[str, Any] = {
    "model_type": "qwen3_moe",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [1],
    "tie_word_embeddings": False,
}


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return dict(implied_tensors(config))


@pytest.mark.parametrize("tied", [False, True])
def test_a_text_model_has_transformers_tensors(tied: bool) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = {**TEXT, "tie_word_embeddings": tied}
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(transformers.Qwen3MoeConfig(**config))
    wanted: dict[str, tuple[int, ...]] = {}
    for name, tensor in model.state_dict().items():
        shape = tuple(tensor.shape)
        if name.endswith("experts.gate_up_proj"):
            for expert in range(shape[0]):
                for part in ("gate", "up"):
                    module = name.replace("gate_up_proj", f"{expert}.{part}_proj.weight")
                    wanted[module] = (shape[1] // 2, shape[2])
        elif name.endswith("experts.down_proj"):
            wanted |= {name.replace("down_proj", f"{e}.down_proj.weight"): shape[1:] for e in range(shape[0])}
        elif not (tied and name == "lm_head.weight"):
            wanted[name] = shape
    assert shapes(config) == wanted


def test_a_thinker_alone_has_the_thinkers_tensors_without_a_prefix() -> None:
    whole = open_checkpoint(checkpoint_path())
    alone = {**whole.config["thinker_config"], "model_type": "qwen3_omni_moe_thinker"}
    wanted = {t.name.removeprefix("thinker."): t.shape for t in whole.tensors if t.name.startswith("thinker.")}
    assert shapes(alone) == wanted


@pytest.mark.parametrize(
    ("tensor", "stage", "part"),
    [
        ("model.layers.0.mlp.experts.3.up_proj.weight", "decoder", "experts"),
        ("model.layers.11.self_attn.q_proj.weight", "decoder", "attention"),
        ("model.layers.0.mlp.gate.weight", "decoder", "router"),
        ("lm_head.weight", "decoder", "lm_head"),
        ("model.norm.weight", "decoder", "norms and biases"),
        ("audio_tower.layers.0.fc1.weight", "towers", "audio tower"),
        ("visual.blocks.0.attn.qkv.weight", "towers", "visual"),
    ],
)
def test_stages_and_parts(tensor: str, stage: str, part: str) -> None:
    found = stage_of(tensor)
    assert found is not None
    assert found.foreign
    assert (found.name, found.part(tensor).name) == (stage, part)


@pytest.mark.parametrize("tensor", ["models.x", "lm_heads.weight", "visuals.x", "", "."])
def test_other_names_belong_to_no_stage(tensor: str) -> None:
    assert stage_of(tensor) is None


def test_planning_takes_qwen3_omni_alone() -> None:
    with pytest.raises(Inconsistent, match="model_type is 'qwen3_moe'"):
        expected_tensors(TEXT)
    with pytest.raises(Inconsistent, match="model_type is 'llama'"):
        shapes({**TEXT, "model_type": "llama"})
