"""ModelOpt's own exporter is the oracle: our thinker tensors, written as one file, are its file byte for byte.

ModelOpt cannot export the whole model; it can export the thinker alone, with the audio tower left out. Its exporter
works on the model in memory, ours on files and a record: they share nothing but the calibration.
"""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from pytest_q3omni.omni.checkpoint import INDEX, Checkpoint, open_checkpoint
from pytest_q3omni.omni.conversations import load_conversations
from pytest_q3omni.omni.processor import load_processor
from pytest_q3omni.omni.safetensors_file import layout
from pytest_q3omni.omni.tiny import checkpoint_path, conversations_path
from pytest_q3omni.pack.write import write_checkpoint
from pytest_q3omni.plan.build import build_plan
from pytest_q3omni.records import CalibrationRecord, TensorInfo

pytestmark = pytest.mark.tiny
torch = pytest.importorskip("torch", reason="needs the quantize extra: pip install 'pytest-q3omni[quantize]'")

from pytest_q3omni.engines.modelopt import input_amax, load_modelopt, without_conv3d  # noqa: E402
from pytest_q3omni.engines.transformers import conversation_inputs, load_model, thinker_step  # noqa: E402

SAMPLES = slice(0, 60, 6)  # ten conversations of all modalities


@pytest.fixture(scope="module", params=["NVFP4_DEFAULT_CFG", "W4A16 experts"])
def oracle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, str]:
    """ModelOpt's export of the tiny thinker, the record of the same run, and the recipe it corresponds to."""
    from modelopt.torch.export import export_hf_checkpoint

    quantization = load_modelopt()
    model = load_model(checkpoint_path())
    processor = load_processor(checkpoint_path())
    samples = [conversation_inputs(processor, sample) for sample in load_conversations(conversations_path())[SAMPLES]]

    def loop(model: Any) -> None:
        with torch.no_grad():
            for inputs in samples:
                thinker_step(model, inputs)

    weight_only = request.param != "NVFP4_DEFAULT_CFG"
    config = {**quantization.NVFP4_DEFAULT_CFG, "quant_cfg": list(quantization.NVFP4_DEFAULT_CFG["quant_cfg"])}
    config["quant_cfg"].append({"quantizer_name": "*audio_tower*", "enable": False})
    if weight_only:
        config["quant_cfg"] += [
            {"quantizer_name": name, "enable": False} for name in ("*self_attn*", "*input_quantizer")
        ]
    with without_conv3d(quantization):
        quantization.quantize(model, config, loop)
    recipe = "nvfp4-mlp-weight-only" if weight_only else "nvfp4-default"
    plan = build_plan(checkpoint_path(), recipe)
    record = CalibrationRecord(recipe, plan.fingerprint, input_amax(model, plan.tensors), {}, len(samples), {})
    home = tmp_path_factory.mktemp("oracle")
    model.thinker.config.architectures = ["Qwen3OmniMoeThinkerForConditionalGeneration"]
    export_hf_checkpoint(model.thinker, export_dir=str(home))
    return home / "model.safetensors", record, recipe


def as_one_thinker_file(checkpoint: Checkpoint) -> bytes:
    """The thinker's tensors without their prefix, as one safetensors file."""
    names = {name.removeprefix("thinker."): name for name in checkpoint.entries if name.startswith("thinker.")}
    infos = [TensorInfo(short, entry.info.dtype, entry.info.shape)
             for short, entry in ((short, checkpoint.entries[name]) for short, name in names.items())]  # fmt: skip
    made = layout(infos)
    return made.header + b"".join(checkpoint.read(names[tensor.name]).tobytes() for tensor in made.tensors)


def scattered(home: Path, shards: int = 5) -> Path:
    """The tiny checkpoint with its tensors dealt at random over shards, so that fused groups straddle them."""
    source = open_checkpoint(checkpoint_path())
    shutil.copytree(checkpoint_path(), home, ignore=shutil.ignore_patterns("*.safetensors"))
    names = sorted(source.entries)
    random.Random(7).shuffle(names)
    weight_map = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        made = layout(source.entries[name].info for name in names[number::shards])
        data = b"".join(source.read(tensor.name).tobytes() for tensor in made.tensors)
        (home / file).write_bytes(made.header + data)
        weight_map |= {tensor.name: file for tensor in made.tensors}
    (home / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return home


@pytest.mark.parametrize("shard_bytes", [5 * 10**9, 200_000], ids=["one file", "many shards"])
@pytest.mark.parametrize("place", ["as it is", "scattered"])
def test_the_packed_thinker_is_modelopts_export_byte_for_byte(
    oracle: tuple[Path, CalibrationRecord, str], tmp_path: Path, place: str, shard_bytes: int
) -> None:
    exported, record, recipe = oracle
    source = checkpoint_path() if place == "as it is" else scattered(tmp_path / "source")
    plan = build_plan(source, recipe, max_shard_bytes=shard_bytes)
    write_checkpoint(
        open_checkpoint(source), plan, tmp_path / "out", record=record if plan.numerics == "w4a4" else None
    )
    ours, theirs = as_one_thinker_file(open_checkpoint(tmp_path / "out")), exported.read_bytes()
    assert len(ours) == len(theirs)
    assert ours == theirs
