"""Sound checkpoints as other tools write them, made with numpy: what our own packer does not write.

Names, dtypes and declarations as read from files that ModelOpt 0.47 and llm-compressor 0.14 (compressed-tensors 0.20)
wrote for a small Qwen3-MoE.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from _checkpoint_edit import Array, bfloat16, edit_json, edit_quantization, original, read, write, write_file

from pytest_q3omni.nvfp4 import pack_tensor
from pytest_q3omni.omni.checkpoint import scan
from pytest_q3omni.omni.stages import implied_tensors

LAYERS = tuple(f"thinker.model.layers.{number}" for number in (0, 1))
ATTENTION = tuple(f"{layer}.self_attn.{name}_proj" for layer in LAYERS for name in "qkvo")
SPEECH = ("talker.", "code2wav.")
_E4M3_MAX = 448
_PRODUCER = {"name": "modelopt", "version": "0.47.0"}


def forget_own_files(directory: Path) -> None:
    """Without what our packer leaves beside the weights: another tool has no record and another card."""
    shutil.rmtree(directory / "q3omni")
    (directory / "README.md").unlink()


def declared_plainly(directory: Path) -> None:
    """ModelOpt's plain declaration: one algorithm for everything that the ignore list does not name."""
    ignore = ["thinker.audio_tower*", "thinker.lm_head", "thinker.model.embed_tokens", "thinker.visual*"]
    ignore += [*(f"{layer}.mlp.gate" for layer in LAYERS), "talker*", "code2wav*"]
    block = {"quant_method": "modelopt", "producer": _PRODUCER, **_plain("Linear"), "ignore": ignore}
    edit_json(directory, "config.json", lambda config: config.update(quantization_config=block))
    second = {"quant_algo": "NVFP4", "kv_cache_quant_algo": None, "group_size": 16, "exclude_modules": ignore}
    (directory / "hf_quant_config.json").write_text(json.dumps({"producer": _PRODUCER, "quantization": second}))


def _plain(target: str) -> dict[str, Any]:
    numbers = {"dynamic": False, "num_bits": 4, "type": "float", "group_size": 16}
    group = {"input_activations": numbers, "weights": numbers, "targets": [target]}
    return {"quant_algo": "NVFP4", "config_groups": {"group_0": group}}


def fp8(weight: Array, *, by_row: bool = False) -> tuple[Array, Array]:
    """(E4M3 codes, float32 scale of shape () or (out, 1)): amax / 448, as both tools have it."""
    values = weight.astype(np.float32)
    amax = np.abs(values).max(axis=1, keepdims=True) if by_row else np.abs(values).max()
    scale = np.asarray(amax / np.float32(_E4M3_MAX), np.float32)
    if by_row:  # stored in BF16, and divided by what is stored
        scale = bfloat16(scale).astype(np.float32)
    codes = np.clip(values / scale, -_E4M3_MAX, _E4M3_MAX).astype(ml_dtypes.float8_e4m3fn)
    return codes, scale


def attention_in_fp8(directory: Path) -> None:
    """NVFP4 experts beside FP8 attention with one scale per tensor; the input's is its amax / 448."""
    compressed = _is_compressed(directory)
    for module in ATTENTION:
        amax = _input_amax(directory, module, compressed)
        codes, scale = fp8(original(f"{module}.weight"))
        if compressed:
            scale = bfloat16(np.reshape(scale, 1))
            codes = fp8_codes(original(f"{module}.weight"), scale)
        given = np.array(amax / _E4M3_MAX, np.float32)
        _replace(directory, module, codes, scale, bfloat16(given.reshape(1)) if compressed else given)
    if compressed:
        activations = {"dynamic": False, "num_bits": 8, "strategy": "tensor", "symmetric": True, "type": "float"}
        _declare_compressed(directory, "tensor", activations)
    else:
        edit_quantization(directory, _declare_modelopt)
    forget_own_files(directory)


def fp8_codes(weight: Array, scale: Array) -> Array:
    """E4M3 codes under a scale that was rounded already."""
    quotient = weight.astype(np.float32) / scale.astype(np.float32)
    codes: Array = np.clip(quotient, -_E4M3_MAX, _E4M3_MAX).astype(ml_dtypes.float8_e4m3fn)
    return codes


def attention_in_dynamic_fp8(directory: Path) -> None:
    """NVFP4 experts beside FP8_DYNAMIC attention: a scale per row, inputs scaled while the model runs."""
    for module in ATTENTION:
        codes, scale = fp8(original(f"{module}.weight"), by_row=True)
        _replace(directory, module, codes, bfloat16(scale), None)
    activations = {"dynamic": True, "num_bits": 8, "strategy": "token", "symmetric": True, "type": "float"}
    _declare_compressed(directory, "channel", activations)
    forget_own_files(directory)


def _is_compressed(directory: Path) -> bool:
    config = json.loads((directory / "config.json").read_text())
    return bool(config["quantization_config"]["quant_method"] == "compressed-tensors")


def _input_amax(directory: Path, module: str, compressed: bool) -> float:
    stored = float(read(directory, f"{module}.{'input_global_scale' if compressed else 'input_scale'}").reshape(-1)[0])
    return 2688 / stored if compressed else 2688 * stored


def _replace(directory: Path, module: str, codes: Array, scale: Array, input_scale: Array | None) -> None:
    gone = ("weight_packed", "weight_global_scale", "input_global_scale", "weight_scale_2", "input_scale")
    changes = {f"{module}.{name}": None for name in gone}
    write(
        directory,
        {
            **changes,
            f"{module}.weight": codes,
            f"{module}.weight_scale": scale,
            f"{module}.input_scale": input_scale,
        },
    )


def _declare_modelopt(block: dict[str, Any]) -> None:
    for module in ATTENTION:
        block["quantized_layers"][module] = {"quant_algo": "FP8"}


def _declare_compressed(directory: Path, strategy: str, activations: dict[str, Any]) -> None:
    weights = {"dynamic": False, "num_bits": 8, "strategy": strategy, "symmetric": True, "type": "float"}
    group = {
        "format": "float-quantized",
        "input_activations": activations,
        "output_activations": None,
        "targets": [r"re:.*model\.layers\.\d+\.self_attn\.[qkvo]_proj$"],
        "weights": weights,
    }

    def change(block: dict[str, Any]) -> None:
        nvfp4 = {**block["config_groups"]["group_0"], "targets": [r"re:.*mlp\.experts\..*"]}
        block["config_groups"] = {"group_0": group, "group_1": nvfp4}
        block["format"] = "mixed-precision"

    edit_quantization(directory, change)


def with_kv_scales(directory: Path) -> None:
    """An FP8 KV cache with its scales: F32 () beside k_proj and v_proj in ModelOpt's layout, BF16 (1,) in the other."""
    compressed = _is_compressed(directory)
    names = ("k_scale", "v_scale") if compressed else ("k_proj.k_scale", "v_proj.v_scale")
    changes = {}
    for number, layer in enumerate(LAYERS):
        for name in names:
            value = np.array(0.02 + 0.005 * number, np.float32)
            changes[f"{layer}.self_attn.{name}"] = bfloat16(value.reshape(1)) if compressed else value
    write(directory, changes)
    scheme: dict[str, Any] = {"dynamic": False, "num_bits": 8, "type": "float"}
    if compressed:
        scheme |= {"group_size": None, "strategy": "tensor", "symmetric": True}
    edit_quantization(directory, lambda block: block.update(kv_cache_scheme=scheme))
    (directory / "README.md").unlink()


def thinker_only(directory: Path) -> None:
    """Thinking and Captioner: no speech stages, and a config that says so."""
    edit_json(directory, "config.json", lambda config: config.update(enable_audio_output=False))
    write(directory, {name: None for name in scan(directory).entries if name.startswith(SPEECH)})
    edit_quantization(directory, lambda block: block.update(ignore=[e for e in block["ignore"] if _of_thinker(e)]))
    (directory / "README.md").unlink()


def _of_thinker(entry: str) -> bool:
    return entry.startswith("thinker.")


TEXT_CONFIG = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "attention_bias": False,
    "decoder_sparse_step": 1,
    "dtype": "bfloat16",
    "head_dim": 16,
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 96,
    "max_position_embeddings": 256,
    "mlp_only_layers": [],
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 64,
    "norm_topk_prob": True,
    "num_attention_heads": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 3,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "vocab_size": 128,
}


def text_model(out: Path, **config: Any) -> Path:
    """A Qwen3-MoE text model with weights from a random generator; no tokenizer, as many uploads of experiments."""
    out.mkdir(parents=True)
    whole = TEXT_CONFIG | config
    (out / "config.json").write_text(json.dumps(whole, indent=2))
    (out / "generation_config.json").write_text(json.dumps({"do_sample": False}))
    random = np.random.default_rng(11)
    tensors = {
        name: bfloat16(random.standard_normal(shape) * 0.05 + ("norm" in name))
        for name, shape in implied_tensors(whole)
    }
    write_file(out / "model.safetensors", tensors)
    return out


def packed_text_model(out: Path, **config: Any) -> Path:
    """`text_model` as ModelOpt's plain NVFP4 export: attention and experts, with input scales."""
    text_model(out, **config)
    packed = [name for name in scan(out).entries if _in_decoder(name)]
    write(out, {name: change for group in _groups(packed).values() for name, change in _pack(out, group).items()})
    routers = [name.removesuffix(".weight") for name in scan(out).entries if name.endswith("mlp.gate.weight")]
    ignore = ["lm_head", "model.embed_tokens", *routers]
    block = {"quant_method": "modelopt", "producer": _PRODUCER, **_plain("Linear"), "ignore": ignore}
    edit_json(out, "config.json", lambda config: config.update(quantization_config=block))
    return out


def _in_decoder(name: str) -> bool:
    return name.endswith("_proj.weight") and (".self_attn." in name or ".experts." in name)


def _groups(names: list[str]) -> dict[str, list[str]]:
    fused = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "gate_up", "up_proj": "gate_up"}
    groups: dict[str, list[str]] = {}
    for name in names:
        parent, projection = name.split(".")[:-2], name.split(".")[-2]
        groups.setdefault(".".join((*parent, fused.get(projection, projection))), []).append(name)
    return groups


_AMAX = {1: 1.0, 2: 4.0, 3: 4.0}  # of inputs, by members of the fused group: what a norm's output may have, and others


def _pack(out: Path, names: list[str]) -> dict[str, Array | None]:
    weights = {name: read(out, name) for name in names}
    shared = pack_tensor(np.concatenate([weight.reshape(-1, 16) for weight in weights.values()])).global_scale
    changes: dict[str, Array | None] = {}
    for name, weight in weights.items():
        packed, amax = pack_tensor(weight, shared), _AMAX[len(weights)]
        changes[name] = packed.codes
        changes[f"{name}_scale"] = packed.block_scale
        changes[f"{name}_scale_2"] = np.array(packed.global_scale)
        changes[f"{name.removesuffix('weight')}input_scale"] = np.array(amax / 2688, np.float32)
    return changes


def as_hub_cache(files: Path, out: Path) -> Path:
    """A download as huggingface_hub lays it out: `snapshots/REV/file -> ../../blobs/HASH`; the snapshot's directory."""
    repository = out.with_name("models--owner--name")
    snapshot = repository / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, file in enumerate(sorted(files.iterdir())):
        if file.is_file():
            file.rename(repository / "blobs" / f"hash{number}")
            (snapshot / file.name).symlink_to(Path("..") / ".." / "blobs" / f"hash{number}")
    shutil.rmtree(files)
    return snapshot
