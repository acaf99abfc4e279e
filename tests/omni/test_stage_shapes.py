"""Names and shapes computed from a config against the sizes of the full model and against transformers itself."""

import json
from importlib.resources import files
from pathlib import Path

import pytest

from pytest_q3omni.errors import Inconsistent
from pytest_q3omni.omni.stages import expected_tensors, stage_of, stages
from pytest_q3omni.omni.tiny import checkpoint_path

pytestmark = pytest.mark.tiny

FULL_SIZE = Path(str(files("pytest_q3omni.omni") / "qwen3_omni_30b_config.json"))


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tensor.shape for tensor in expected_tensors(config)}


def transformers_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model built on the meta device, experts unfused as `save_pretrained` writes them."""
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'pytest-q3omni[quantize]'")
    from transformers import Qwen3OmniMoeConfig, Qwen3OmniMoeForConditionalGeneration

    with torch.device("meta"):
        model = Qwen3OmniMoeForConditionalGeneration(Qwen3OmniMoeConfig(**config))
    result = {}
    for name, tensor in model.state_dict().items():
        shape = tuple(tensor.shape)
        if name.endswith(".experts.gate_up_proj"):
            for expert in range(shape[0]):
                for half in ("gate", "up"):
                    member = name.replace("gate_up_proj", f"{expert}.{half}_proj.weight")
                    result[member] = (shape[1] // 2, shape[2])
        elif name.endswith(".experts.down_proj"):
            for expert in range(shape[0]):
                result[name.replace("down_proj", f"{expert}.down_proj.weight")] = shape[1:]
        else:
            result[name] = shape
    return result


@pytest.mark.parametrize("file", [FULL_SIZE, checkpoint_path() / "config.json"], ids=["full size", "tiny"])
def test_shapes_are_those_of_transformers_meta_model(file: Path) -> None:
    config = json.loads(file.read_text())
    assert shapes(config) == transformers_shapes(config)


def test_stages_are_disjoint_and_name_every_tensor_of_the_full_model() -> None:
    """Counts of the released checkpoint (achatbot issue 196): thinker 31719.205488 M, talker 3324.59648 M."""
    counts = dict.fromkeys((stage.name for stage in stages()), 0)
    for name, shape in shapes(json.loads(FULL_SIZE.read_text())).items():
        stage = stage_of(name)
        assert stage is not None, name
        size = 1
        for length in shape:
            size *= length
        counts[stage.name] += size
    assert counts["thinker"] == 31_719_205_488
    assert counts["talker"] + counts["code_predictor"] == 3_324_596_480
    assert counts["code2wav"] == 216_016_577
    assert list(counts) == ["thinker", "talker", "code_predictor", "code2wav", "decoder", "towers"]
    assert counts["decoder"] == counts["towers"] == 0, "other models' stages"


def test_thinker_only_models_have_no_speech_tensors() -> None:
    config = json.loads(FULL_SIZE.read_text())
    whole = shapes(config)
    without = {name: shape for name, shape in whole.items() if name.startswith("thinker.")}
    no_fields = {key: value for key, value in config.items() if not key.startswith(("talker", "code2wav"))}
    assert shapes({**config, "enable_audio_output": False}) == without
    assert shapes(no_fields) == without


def test_dense_layers_are_dense() -> None:
    config = json.loads((checkpoint_path() / "config.json").read_text())
    config["thinker_config"]["text_config"]["mlp_only_layers"] = [1]
    names = shapes(config)
    assert "thinker.model.layers.1.mlp.gate_proj.weight" in names
    assert "thinker.model.layers.1.mlp.gate.weight" not in names
    assert "thinker.model.layers.0.mlp.experts.0.gate_proj.weight" in names


WRONG_FIELDS = [
    ("hidden_size", None),
    ("hidden_size", "2048"),
    ("num_experts", 0),
    ("num_hidden_layers", -1),
    ("num_attention_heads", True),
    ("moe_intermediate_size", 1 << 40),
    ("mlp_only_layers", "none"),
    ("decoder_sparse_step", 0),
]


@pytest.mark.parametrize(("place", "value"), WRONG_FIELDS)
def test_a_wrong_field_is_named(place: str, value: object) -> None:
    config = json.loads((checkpoint_path() / "config.json").read_text())
    text = config["thinker_config"]["text_config"]
    if place == "num_experts":
        text.pop("num_local_experts", None)
    text[place] = value
    with pytest.raises(Inconsistent, match=rf"text_config\.{place}"):
        expected_tensors(config)


def test_a_config_of_endless_layers_ends(tmp_path: Path) -> None:
    config = json.loads((checkpoint_path() / "config.json").read_text())
    config["thinker_config"]["text_config"]["num_hidden_layers"] = 2_000_000_000
    with pytest.raises(Inconsistent, match="more than 1,000,000 tensors"):
        expected_tensors(config)


def test_another_model_is_refused() -> None:
    with pytest.raises(Inconsistent, match="qwen3_moe"):
        expected_tensors({"model_type": "qwen3_moe"})


def test_every_part_that_must_stay_says_why_and_every_stage_says_how_it_runs() -> None:
    packable = ("experts", "attention", "shared expert")
    for stage in stages():
        assert stage.run
        assert stage.parts[-1].pattern == ".+", "the last part must match everything"
        free = (*packable, "dense MLP", "lm_head") if stage.foreign else packable
        assert all(part.keep or part.name in free for part in stage.parts)
