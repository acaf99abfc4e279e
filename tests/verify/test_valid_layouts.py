"""No false alarm: declarations, depths, roundings and models of other tools, in both layouts."""

from pathlib import Path
from typing import Any

import foreign_checkpoints as foreign
import ml_dtypes
import numpy as np
import pytest
from _checkpoint_edit import (
    Array,
    bfloat16,
    edit_group,
    edit_json,
    edit_quantization,
    original,
    read,
    scaled,
    write,
    write_file,
)
from sound_checkpoints import Copy, Sound, judged, passes

from pytest_q3omni.nvfp4 import pack_tensor
from pytest_q3omni.omni.checkpoint import scan
from pytest_q3omni.verify.judge import judge

pytestmark = pytest.mark.tiny

FILES = ("packed", "consistent", "faithful")
NULLS = {"actorder": None, "block_structure": None, "observer": "minmax", "observer_kwargs": {}, "zp_dtype": None}


def test_config_of_compressed_tensors_0_19(copy: Copy) -> None:
    """Null and default keys written out, the format of the group left to the whole block."""

    def change(group: dict[str, Any]) -> None:
        group["weights"] |= NULLS
        group["input_activations"] |= NULLS
        group["format"] = None

    directory = copy("ct-w4a4")
    edit_group(directory, change)
    edit_quantization(directory, lambda block: block.update(version="0.19.0", sparsity_config={}, transform_config={}))
    passes(judged(directory), *FILES, "calibrated")


def test_config_of_model_free_ptq(copy: Copy) -> None:
    """A group named after its preset, and an ignore list of expressions."""
    ignore = [r"re:.*lm_head.*", r"re:.*mlp\.gate$", "re:.*visual.*", "re:.*audio_tower.*", "re:^talker.*"]

    def change(block: dict[str, Any]) -> None:
        ours = block["config_groups"].pop("group_0")
        ours["weights"]["scale_dtype"] = "torch.float8_e4m3fn"
        block["config_groups"]["NVFP4A16"] = ours
        kept = [r"re:^code2wav.*", r"re:.*embed_tokens$", r"re:.*self_attn.*"]
        block.update(ignore=[*ignore, *kept], moe_sparsity_config=None, global_compression_ratio=None)

    directory = copy("ct-w4a16")
    edit_quantization(directory, change)
    passes(judged(directory), *FILES)


def test_targets_by_expression_and_by_name(copy: Copy) -> None:
    """One group names what it covers, instead of everything but the ignored."""
    names = [f"thinker.model.layers.{layer}.self_attn.{name}_proj" for layer in (0, 1) for name in "qkvo"]
    directory = copy("ct-w4a4")
    edit_group(directory, lambda group: group.update(targets=[r"re:.*mlp\.experts\..*", *names]))
    passes(judged(directory), *FILES, "calibrated")


def bf16_rule(weight: Array, largest: float) -> tuple[Array, Array, Array]:
    """(codes, block scales, stored global scale) with statistics rounded to BF16, as compressed-tensors computes."""
    reciprocal = bfloat16(np.float32(1) / np.float32(largest)).astype(np.float32)
    stored = bfloat16(reciprocal * np.float32(2688)).astype(np.float32)
    values = weight.astype(np.float32)
    amax = np.abs(values.reshape(len(values), -1, 16)).max(axis=-1)
    scales = np.minimum(bfloat16(amax / np.float32(6)).astype(np.float32) * stored, 448).astype(ml_dtypes.float8_e4m3fn)
    share = np.abs(values) / np.repeat(scales.astype(np.float32) / stored, 16, axis=-1)
    bounds = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], np.float32)
    codes = np.searchsorted(bounds, share).astype(np.uint8) | (values < 0).astype(np.uint8) << 3
    return codes[:, 0::2] | codes[:, 1::2] << 4, scales, np.array([stored], np.float32)


def test_rounding_of_compressed_tensors(copy: Copy) -> None:
    """Scales from statistics in BF16: other bytes than ours, and as good."""
    directory = copy("ct-w4a16")
    changes: dict[str, Array | None] = {}
    modules = [n.removesuffix(".weight_packed") for n in scan(directory).entries if n.endswith(".weight_packed")]
    for module in modules:
        group = [module]
        if module.endswith(("gate_proj", "up_proj")):
            group = [f"{module.rpartition('.')[0]}.{name}_proj" for name in ("gate", "up")]
        largest = max(float(np.abs(original(f"{name}.weight").astype(np.float32)).max()) for name in group)
        codes, scales, stored = bf16_rule(original(f"{module}.weight"), largest)
        changes |= {f"{module}.weight_packed": codes, f"{module}.weight_scale": scales}
        changes[f"{module}.weight_global_scale"] = stored
    write(directory, changes)
    passes(judged(directory), *FILES)


def test_one_global_scale_for_all_experts_of_a_layer(copy: Copy) -> None:
    """Some writers share it over the whole fused tensor; blocks of small experts then have small scales."""
    directory = copy("nvfp4-mlp-weight-only")
    changes: dict[str, Array | None] = {}
    for layer in (0, 1):
        for kinds in (("gate", "up"), ("down",)):
            base = f"thinker.model.layers.{layer}.mlp.experts"
            modules = [f"{base}.{expert}.{kind}_proj" for expert in range(8) for kind in kinds]
            shared = max(float(read(directory, f"{module}.weight_scale_2")) for module in modules)
            for module in modules:
                packed = pack_tensor(original(f"{module}.weight"), np.float32(shared))
                changes |= {f"{module}.weight": packed.codes, f"{module}.weight_scale": packed.block_scale}
                changes[f"{module}.weight_scale_2"] = np.array(packed.global_scale)
    write(directory, changes)
    passes(judged(directory, ("source",)), *FILES)


def test_experts_with_larger_input_scales(copy: Copy) -> None:
    """A layer whose experts saw outliers: three times the recorded amax of the tiny data, all of them alike."""
    directory = copy("nvfp4-default")
    names = [f"thinker.model.layers.0.mlp.experts.{expert}.down_proj.input_scale" for expert in range(8)]
    scaled(directory, names, 3)
    passes(judged(directory, ("source",)), *FILES)


def test_input_scales_per_expert_in_compressed_tensors(copy: Copy) -> None:
    directory = copy("ct-w4a4")
    for expert in range(8):
        names = [f"thinker.model.layers.0.mlp.experts.{expert}.down_proj.input_global_scale"]
        scaled(directory, names, 1 + expert / 10)
    passes(judged(directory, ("source",)), *FILES)


def test_scalars_of_compressed_tensors_without_a_dimension(copy: Copy) -> None:
    directory = copy("ct-w4a4")
    names = [name for name in scan(directory).entries if name.endswith("global_scale")]
    write(directory, {name: read(directory, name).reshape(()) for name in names})
    passes(judged(directory), *FILES, "calibrated")


@pytest.mark.parametrize("config", [{"num_hidden_layers": 1}, {"num_experts": 16}, {"tie_word_embeddings": True}])
def test_text_models(config: dict[str, Any], tmp_path: Path) -> None:
    """Other depths and numbers of experts, embeddings that are tied; no tokenizer beside them."""
    source = foreign.text_model(tmp_path / "source", **config)
    directory = foreign.packed_text_model(tmp_path / "packed", **config)
    passes(judge(directory, source=source), *FILES)
    passes(judge(directory), "packed", "consistent")


def test_text_model_with_a_packed_head(copy: Copy, sound: Sound) -> None:
    """nvidia's own text checkpoints pack lm_head, too: the engine then takes it."""
    directory = copy("qwen3-moe")
    packed = pack_tensor(read(directory, "lm_head.weight"))
    write(
        directory,
        {
            "lm_head.weight": packed.codes,
            "lm_head.weight_scale": packed.block_scale,
            "lm_head.weight_scale_2": np.array(packed.global_scale),
            "lm_head.input_scale": np.array(0.002, np.float32),
        },
    )
    edit_quantization(directory, lambda block: block["ignore"].remove("lm_head"))
    passes(judge(directory, source=sound.original("qwen3-moe")), *FILES)


def test_weight_only_text_model(copy: Copy, sound: Sound) -> None:
    """W4A16_NVFP4, plain: no input scales anywhere."""
    directory = copy("qwen3-moe")
    write(directory, {name: None for name in scan(directory).entries if name.endswith(".input_scale")})
    edit_quantization(directory, lambda block: block.update(quant_algo="W4A16_NVFP4"))
    passes(judge(directory, source=sound.original("qwen3-moe")), *FILES)


def test_experts_packed_and_attention_in_bf16(copy: Copy) -> None:
    """A mix that the ignore list declares by pattern."""
    directory = copy("plain-nvfp4")
    for module in foreign.ATTENTION:
        gone = {f"{module}.{suffix}": None for suffix in ("weight_scale", "weight_scale_2", "input_scale")}
        write(directory, {**gone, f"{module}.weight": original(f"{module}.weight")})
    edit_quantization(directory, lambda block: block["ignore"].append("*self_attn*"))
    edit_json(
        directory, "hf_quant_config.json", lambda told: told["quantization"]["exclude_modules"].append("*self_attn*")
    )
    (directory / "README.md").unlink()  # which says that attention is packed
    passes(judged(directory), *FILES, "calibrated")


def test_second_config_of_a_thinker_that_was_exported_alone(copy: Copy) -> None:
    """hf_quant_config.json was left as ModelOpt wrote it, without the prefixes that config.json has now."""
    directory = copy("plain-nvfp4")

    def without_prefix(told: dict[str, Any]) -> None:
        listed = told["quantization"]["exclude_modules"]
        kept = [entry.removeprefix("thinker.") for entry in listed if not entry.startswith(("talker", "code2wav"))]
        told["quantization"]["exclude_modules"] = kept

    edit_json(directory, "hf_quant_config.json", without_prefix)
    passes(judged(directory), *FILES, "calibrated")


def test_fp8_scales_in_float32_in_compressed_tensors(copy: Copy) -> None:
    """The model's dtype is usual, and float32 as good."""
    directory = copy("ct-mixed-dynamic")
    names = [f"{module}.weight_scale" for module in foreign.ATTENTION]
    write(directory, {name: read(directory, name).astype(np.float32) for name in names})
    passes(judged(directory, ("source",)), *FILES)


def test_kv_scales_of_different_sizes(copy: Copy) -> None:
    """Keys of the first layer are ten times those of the last."""
    directory = copy("fp8-kv")
    scaled(directory, ["thinker.model.layers.0.self_attn.k_proj.k_scale"], 10)
    passes(judged(directory), *FILES, "calibrated")


def exported_alone(directory: Path) -> None:
    """The thinker as ModelOpt exports it from `model.thinker`: its own config, and names without a prefix."""
    checkpoint = scan(directory)
    renamed = {name.removeprefix("thinker."): checkpoint.array(name) for name in checkpoint.entries}
    kept = {name: values for name, values in renamed.items() if not name.startswith(foreign.SPEECH)}
    write_file(directory / "model.safetensors", kept)

    def change(config: dict[str, Any]) -> None:
        block = config["quantization_config"]
        listed = [entry.removeprefix("thinker.") for entry in block["ignore"] if entry.startswith("thinker.")]
        block["ignore"] = listed
        thinker = config["thinker_config"]
        config.clear()
        config.update({**thinker, "model_type": "qwen3_omni_moe_thinker", "quantization_config": block})

    edit_json(directory, "config.json", change)
    (directory / "README.md").unlink()


@pytest.mark.parametrize("base", ["plain-nvfp4", "ct-w4a4"])
def test_thinker_exported_alone(base: str, copy: Copy) -> None:
    """No engine loads it, and nothing in it is wrong."""
    directory = copy(base)
    exported_alone(directory)
    (directory / "hf_quant_config.json").unlink(missing_ok=True)
    passes(judged(directory, ()), "packed", "consistent")


def test_compressed_thinker_only(copy: Copy) -> None:
    """Thinking and Captioner in compressed-tensors' layout."""
    directory = copy("ct-w4a16")
    edit_json(directory, "config.json", lambda config: config.update(enable_audio_output=False))
    write(directory, {name: None for name in scan(directory).entries if name.startswith(foreign.SPEECH)})
    (directory / "README.md").unlink()
    passes(judged(directory), *FILES)


@pytest.mark.parametrize("config", [{"attention_bias": True}, {"mlp_only_layers": [1]}, {"num_key_value_heads": 1}])
def test_text_models_of_other_kinds(config: dict[str, Any], tmp_path: Path) -> None:
    """Biases, a dense layer among the others (left in BF16, and ignored), one head for all keys."""
    source = foreign.text_model(tmp_path / "source", **config)
    directory = foreign.packed_text_model(tmp_path / "packed", **config)
    if "mlp_only_layers" in config:
        dense = [f"model.layers.1.mlp.{name}_proj" for name in ("gate", "up", "down")]
        edit_quantization(directory, lambda block: block["ignore"].extend(dense))
    passes(judge(directory, source=source), *FILES)
