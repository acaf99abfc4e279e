"""No false alarm: checkpoints that other tools write, other shapes, other spellings. All of them are sound."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from _checkpoint_edit import EXPERT, LAYER, bfloat16, edit_json, edit_quantization, read, scaled, write, write_file
from sound_checkpoints import BASES, Copy, Sound, SoundCheckpoint, judged, make, passes

from pytest_q3omni.nvfp4 import pack_tensor
from pytest_q3omni.omni.checkpoint import open_checkpoint, scan
from pytest_q3omni.omni.config import normalise
from pytest_q3omni.omni.stages import expected_tensors
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.pack.write import write_checkpoint
from pytest_q3omni.plan.build import build_plan
from pytest_q3omni.verify.judge import judge

pytestmark = pytest.mark.tiny

SPEECH = ("talker.", "code2wav.")


@pytest.mark.parametrize("base", sorted(BASES))
def test_base(base: str, sound: Sound) -> None:
    """The checkpoints that the faults start from, with a source and a record, with either, with neither."""
    for given in ((), ("source",), ("record",), ("source", "record")):
        judgement = judged(sound(base), given, sound.original(base))
        assert not [finding for finding in judgement.findings if finding.severity == "error"]
        assert not judgement.failed
        asked = {"packed", "consistent", *({"faithful"} if "source" in given else ())}
        assert {verdict.name for verdict in judgement.verdicts if verdict.state == "pass"} >= asked


def test_thinker_only(copy: Copy) -> None:
    """Thinking and Captioner: no speech stages, and a config that says so."""
    directory = copy()
    edit_json(directory, "config.json", lambda config: config.update(enable_audio_output=False))
    write(directory, {name: None for name in scan(directory).entries if name.startswith(SPEECH)})
    (directory / "README.md").unlink()  # which has the whole model's numbers
    judgement = judged(directory, ())
    passes(judgement, "packed", "consistent")
    assert list(judgement.facts.stages) == ["thinker"]


def test_thinker_only_without_the_other_configs(copy: Copy) -> None:
    directory = copy()
    edit_json(
        directory, "config.json", lambda config: [config.pop(key) for key in ("talker_config", "code2wav_config")]
    )
    write(directory, {name: None for name in scan(directory).entries if name.startswith(SPEECH)})
    (directory / "README.md").unlink()  # which has the whole model's numbers
    passes(judged(directory, ()), "packed", "consistent")


@pytest.mark.parametrize("base", ["nvfp4-default", "sharded"])
def test_hub_cache_with_links(base: str, sound: SoundCheckpoint, tmp_path: Path) -> None:
    """`snapshots/REV/file -> ../../blobs/HASH`, as huggingface_hub lays a download out."""
    repository = tmp_path / "models--owner--name"
    snapshot = repository / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, file in enumerate(sorted(sound(base).iterdir())):
        if file.is_file():
            shutil.copy(file, repository / "blobs" / f"hash{number}")
            (snapshot / file.name).symlink_to(Path("..") / ".." / "blobs" / f"hash{number}")
    passes(judged(snapshot, ("source",)), "packed", "consistent", "faithful")


def test_config_in_the_spelling_of_transformers_4(copy: Copy) -> None:
    def change(config: dict) -> None:
        config["torch_dtype"] = config.pop("dtype")
        for text in (config["thinker_config"]["text_config"], config["talker_config"]["text_config"]):
            rope = text.pop("rope_parameters")
            text["rope_theta"] = rope.pop("rope_theta")
            text["rope_scaling"] = {**rope, "type": rope["rope_type"]}
        text = config["thinker_config"]["text_config"]
        for field in ("mlp_only_layers", "decoder_sparse_step", "tie_word_embeddings", "attention_bias"):
            text.pop(field)

    directory = copy()
    edit_json(directory, "config.json", change)
    passes(judged(directory), "packed", "consistent", "faithful", "calibrated")


def test_config_written_again_by_another_release(copy: Copy) -> None:
    """Fields with defaults written out, fields in alphabetical order, another transformers version."""

    def change(config: dict) -> None:
        config.update(transformers_version="6.0.0", new_field_of_6=None)
        config["thinker_config"]["text_config"]["router_jitter_noise"] = 0.0

    directory = copy()
    edit_json(directory, "config.json", change)
    passes(judged(directory), "packed", "consistent", "faithful", "calibrated")


def test_plain_nvfp4_as_modelopt_writes_it(copy: Copy) -> None:
    """ModelOpt 0.47's own block and second file, prefixed: everything is declared packed but what is listed."""
    numbers = {"dynamic": False, "num_bits": 4, "type": "float", "group_size": 16}
    group = {"input_activations": numbers, "weights": numbers, "targets": ["Linear"]}
    ignore = ["audio_tower*", "lm_head", "model.embed_tokens", "visual*"]
    ignore += [f"model.layers.{layer}.mlp.gate" for layer in (0, 1)]
    ignore = [*(f"thinker.{name}" for name in ignore), "talker*", "code2wav*"]
    producer = {"name": "modelopt", "version": "0.47.0"}
    block = {"config_groups": {"group_0": group}, "ignore": ignore, "quant_algo": "NVFP4", "producer": producer}
    second = {"quant_algo": "NVFP4", "kv_cache_quant_algo": None, "group_size": 16, "exclude_modules": ignore}
    directory = copy()
    edit_json(directory, "config.json", lambda c: c.update(quantization_config={**block, "quant_method": "modelopt"}))
    (directory / "hf_quant_config.json").write_text(json.dumps({"producer": producer, "quantization": second}))
    judgement = judged(directory)
    passes(judgement, "packed", "consistent", "faithful", "calibrated")
    told = [finding for finding in judgement.findings if finding.check != "expert-coverage"]
    assert [finding.check for finding in told] == ["engine-traps"], "vLLM 0.24 to 0.33 cannot load its lm_head"
    assert "lm-head-under-plain-nvfp4" in told[0].expected


def test_experts_listed_one_by_one(copy: Copy) -> None:
    """ModelOpt lists 384 projections where one parent would do."""

    def change(block: dict) -> None:
        for layer in (0, 1):
            entry = block["quantized_layers"].pop(f"thinker.model.layers.{layer}.mlp.experts")
            for expert in range(8):
                for name in ("gate_proj", "up_proj", "down_proj"):
                    block["quantized_layers"][f"thinker.model.layers.{layer}.mlp.experts.{expert}.{name}"] = entry

    directory = copy()
    edit_quantization(directory, change)
    passes(judged(directory), "packed", "consistent", "faithful", "calibrated")


def test_a_second_config_that_agrees(copy: Copy) -> None:
    directory = copy()
    block = json.loads((directory / "config.json").read_text())["quantization_config"]
    inner = {key: block[key] for key in ("quant_algo", "quantized_layers")} | {"exclude_modules": block["ignore"]}
    (directory / "hf_quant_config.json").write_text(json.dumps({"producer": {}, "quantization": inner}))
    passes(judged(directory), "packed", "consistent", "faithful", "calibrated")


def test_weight_only_with_idle_input_scales(copy: Copy) -> None:
    """W4A16 beside input scales: vLLM leaves them unused."""
    directory = copy("nvfp4-mlp-weight-only")
    names = [f"{LAYER}.mlp.experts.{expert}.down_proj.input_scale" for expert in range(8)]
    write(directory, {name: np.array(0.01, np.float32) for name in names})
    (directory / "README.md").unlink()  # which has the bytes without them
    passes(judged(directory, ("source",)), "packed", "consistent", "faithful")


def test_experts_calibrated_one_by_one(copy: Copy) -> None:
    """Older ModelOpt modules: each expert has an input scale of its own; vLLM takes the largest."""
    directory = copy()
    for expert in range(8):
        for kind in (["down_proj"], ["gate_proj", "up_proj"]):
            names = [f"{LAYER}.mlp.experts.{expert}.{name}.input_scale" for name in kind]
            scaled(directory, names, 0.3 + expert / 10)
    passes(judged(directory, ("source",)), "packed", "consistent", "faithful")


def test_scalars_as_vectors_of_one(copy: Copy) -> None:
    directory = copy()
    names = [name for name in scan(directory).entries if name.endswith(("weight_scale_2", "input_scale"))]
    write(directory, {name: read(directory, name).reshape(1) for name in names})
    passes(judged(directory), "packed", "consistent", "faithful", "calibrated")


def test_kv_cache_scales_that_are_declared(copy: Copy) -> None:
    directory = copy()
    edit_quantization(directory, lambda block: block.update(kv_cache_scheme={"type": "float", "num_bits": 8}))
    attention = [f"thinker.model.layers.{layer}.self_attn" for layer in (0, 1)]
    scale = np.array(0.05, np.float32)
    write(directory, {f"{name}.{part}": scale for name in attention for part in ("k_proj.k_scale", "v_proj.v_scale")})
    (directory / "README.md").unlink()  # which has the bytes without them
    passes(judged(directory), "packed", "consistent", "faithful", "calibrated")


def test_another_writers_rounding(copy: Copy) -> None:
    """Global scales rounded up to BF16 before packing, as compressed-tensors does: other bytes, the same quality."""
    directory = copy("nvfp4-mlp-weight-only")
    changes = {}
    source = scan(checkpoint_path())
    for name in scan(directory).entries:
        if name.endswith(".weight_scale_2"):
            module = name.removesuffix(".weight_scale_2")
            packed = pack_tensor(source.array(f"{module}.weight"), read(directory, name) * np.float32(1.004))
            changes |= {f"{module}.weight": packed.codes, f"{module}.weight_scale": packed.block_scale}
            changes[name] = np.array(packed.global_scale)
    write(directory, changes)
    judgement = judged(directory, ("source",))
    passes(judgement, "packed", "consistent", "faithful")
    assert "0 of 48 packed tensors are exactly" in judgement.verdict("faithful").why


def test_a_zero_scale_over_zero_codes(copy: Copy) -> None:
    directory = copy()
    codes, scales = (read(directory, f"{EXPERT}.down_proj.{name}") for name in ("weight", "weight_scale"))
    codes[0, :8] = 0
    scales[0, 0] = 0
    write(directory, {f"{EXPERT}.down_proj.weight": codes, f"{EXPERT}.down_proj.weight_scale": scales})
    passes(judged(directory, ()), "packed", "consistent")


def test_tokenizer_as_on_the_hub(copy: Copy) -> None:
    """vocab.json and merges.txt without tokenizer.json; the template in a jinja file of its own."""
    directory = copy()
    (directory / "tokenizer.json").unlink()
    template = json.loads((directory / "chat_template.json").read_text())["chat_template"]
    (directory / "chat_template.jinja").write_text(template)
    (directory / "chat_template.json").unlink()
    edit_json(directory, "tokenizer_config.json", lambda content: content.pop("chat_template"))
    passes(judged(directory, ()), "packed", "consistent")


def test_tokenizer_as_transformers_5_saves_it(copy: Copy) -> None:
    """Only tokenizer.json, which holds what vocab.json and merges.txt hold."""
    directory = copy()
    for name in ("vocab.json", "merges.txt"):
        (directory / name).unlink()
    passes(judged(directory), "packed", "consistent", "faithful", "calibrated")


def test_vocabulary_and_merges_without_tokenizer_json(copy: Copy) -> None:
    """Legal, with a source and without: the hub's own files."""
    directory = copy()
    (directory / "tokenizer.json").unlink()
    passes(judged(directory), "packed", "consistent", "faithful", "calibrated")
    passes(judged(directory, ()), "packed", "consistent")


def test_special_tokens_as_transformers_5_saves_them(copy: Copy) -> None:
    """The list is called `extra_special_tokens` there, and the names lie in `model_specific_special_tokens`."""

    def change(content: dict) -> None:
        content["model_specific_special_tokens"] = content["extra_special_tokens"]
        content["extra_special_tokens"] = content.pop("additional_special_tokens")

    directory = copy()
    edit_json(directory, "tokenizer_config.json", change)
    judgement = judged(directory)
    passes(judgement, "packed", "consistent", "faithful", "calibrated")
    assert not [finding for finding in judgement.findings if finding.check == "companions"]


def test_config_with_model_types_left_empty(copy: Copy) -> None:
    """`AutoConfig.save_pretrained` of transformers 5."""
    directory = copy()
    edit_json(directory, "config.json", lambda config: config["talker_config"].update(model_type=""))
    passes(judged(directory), "packed", "consistent", "faithful", "calibrated")


@pytest.mark.parametrize("beside", [True, False])
def test_processor_sections_as_transformers_5_saves_them(beside: bool, copy: Copy) -> None:
    """Edges instead of pixels, and lengths computed again from `chunk_length`; the older file may stay beside it."""
    directory = copy()
    content = json.loads((directory / "preprocessor_config.json").read_text())
    image = {key: value for key, value in content.items() if key not in ("min_pixels", "max_pixels")}
    image["size"] = {"shortest_edge": content["min_pixels"], "longest_edge": content["max_pixels"]}
    sound = {**content, "chunk_length": 30, "n_samples": 480000, "nb_max_frames": 3000}
    nested = {"image_processor": image, "feature_extractor": sound, "video_processor": image}
    (directory / "processor_config.json").write_text(json.dumps(nested))
    if not beside:
        (directory / "preprocessor_config.json").unlink()
    passes(judged(directory), "packed", "consistent", "faithful", "calibrated")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the original, to be changed."""
    return Path(shutil.copytree(checkpoint_path(), tmp_path / "source"))


@pytest.mark.parametrize("name", ["configuration.json", "trainer_state.json", "NOTES.txt", "vllm_config.json"])
def test_files_that_only_the_source_has(name: str, copy: Copy, source: Path) -> None:
    """ModelScope's own file, a trainer's, a note: no loader reads them, and a packed checkpoint need not have them."""
    directory = copy()
    (source / name).write_text('{"framework": "pytorch"}')
    passes(judge(directory, source=source), "packed", "consistent", "faithful")
    (directory / name).write_text('{"framework": "other"}')
    passes(judge(directory, source=source), "packed", "consistent", "faithful")


def test_processor_as_transformers_5_saves_it(copy: Copy, source: Path) -> None:
    """One processor_config.json holds what preprocessor_config.json and video_preprocessor_config.json held."""
    directory = copy()
    shutil.copy(source / "preprocessor_config.json", source / "video_preprocessor_config.json")
    (directory / "preprocessor_config.json").rename(directory / "processor_config.json")
    passes(judge(directory, source=source), "packed", "consistent", "faithful")


def test_an_expert_of_zeros(copy: Copy, source: Path) -> None:
    """Pruned in the source, packed by a tool that keeps a usable scale: zeros are zeros."""
    directory = copy()
    modules = [f"{EXPERT}.{name}_proj" for name in ("gate", "up", "down")]
    weights = [f"{module}.weight" for module in modules]
    write(source, {name: np.zeros_like(read(source, name)) for name in weights})
    write(directory, {name: np.zeros_like(read(directory, name)) for name in weights})
    passes(judge(directory, source=source), "packed", "consistent", "faithful")


def test_a_dense_mlp_that_a_foreign_tool_packed(tmp_path: Path) -> None:
    """No recipe covers it and no released model has one; vLLM can load it, so it is a warning."""
    source = random_original(tmp_path / "source", mlp_only_layers=[1], intermediate_size=64)
    directory = tmp_path / "out"
    write_checkpoint(open_checkpoint(source), build_plan(source, "nvfp4-mlp-weight-only"), directory)
    base = "thinker.model.layers.1.mlp"
    weights = {name: read(source, f"{base}.{name}_proj.weight") for name in ("gate", "up", "down")}
    both = np.concatenate([weights["gate"], weights["up"]])
    shared = pack_tensor(both).global_scale
    for name, weight in weights.items():
        packed = pack_tensor(weight, shared if name != "down" else None)
        parts = {"weight": packed.codes, "weight_scale": packed.block_scale}
        parts["weight_scale_2"] = np.array(packed.global_scale)
        write(directory, {f"{base}.{name}_proj.{part}": values for part, values in parts.items()})
    edit_quantization(directory, lambda block: declare_parent(block, base))
    (directory / "README.md").unlink()
    judgement = judge(directory, source=source)
    passes(judgement, "packed", "consistent", "faithful")
    warnings = [finding for finding in judgement.findings if finding.check == "stage-policy"]
    assert [finding.severity for finding in warnings] == ["warning"] * 3
    assert "the thinker's dense MLP is packed" in warnings[0].found


def declare_parent(block: dict, module: str) -> None:
    block["quantized_layers"][module] = {"quant_algo": "W4A16_NVFP4", "group_size": 16}
    block["ignore"] = [item for item in block["ignore"] if not item.startswith(module)]


def test_relative_path(sound: SoundCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sound("nvfp4-default"))
    passes(judge(Path()), "packed", "consistent")
    monkeypatch.chdir("..")
    passes(judge(Path("checkpoint")), "packed", "consistent")


def random_original(out: Path, **text_config: int | list[int]) -> Path:
    """A model of another depth and width, with weights from a random generator."""
    out.mkdir()
    for file in checkpoint_path().iterdir():
        if file.suffix in (".json", ".txt") and file.is_file():
            shutil.copy(file, out / file.name)
    edit_json(out, "config.json", lambda config: config["thinker_config"]["text_config"].update(text_config))
    random = np.random.default_rng(7)
    config = json.loads((out / "config.json").read_text())
    tensors = {
        tensor.name: bfloat16(random.standard_normal(tensor.shape) * 0.02 + ("norm" in tensor.name))
        for tensor in expected_tensors(normalise(config))
    }
    write_file(out / "model.safetensors", tensors)
    return out


@pytest.mark.parametrize(
    "text_config",
    [
        {"num_hidden_layers": 3, "num_experts": 5},
        {"num_experts": 16},
        {"num_hidden_layers": 1, "num_experts": 1, "num_experts_per_tok": 1},
        {"hidden_size": 64},
    ],
)
@pytest.mark.parametrize("layout", ["modelopt", "compressed-tensors"])
def test_another_size(layout: str, text_config: dict[str, int], tmp_path: Path) -> None:
    source = random_original(tmp_path / "source", **text_config)
    out = tmp_path / "out"
    plan = build_plan(source, "nvfp4-mlp-weight-only", layout_name=layout)
    write_checkpoint(open_checkpoint(source), plan, out)
    passes(judge(out, source=source), "packed", "consistent", "faithful")


def test_bf16_is_sound_and_not_packed(tmp_path: Path) -> None:
    """The control: nothing packed, which `packed` says and nothing else."""
    judgement = judged(make("bf16", tmp_path / "bf16"), ("source",))
    assert {finding.check for finding in judgement.findings if finding.severity == "error"} == {"quantized-at-all"}
    assert [verdict.name for verdict in judgement.verdicts if verdict.state == "fail"] == ["packed"]
    assert judgement.verdict("faithful").state == "pass"
    assert judgement.facts.quantized_fraction == 0
    assert judgement.facts.compression_ratio == 1


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_directory_that_is_a_link(sound: SoundCheckpoint, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(sound("nvfp4-default"), target_is_directory=True)
    passes(judged(link, ()), "packed", "consistent")
