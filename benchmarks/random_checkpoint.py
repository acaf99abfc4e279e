"""A BF16 checkpoint of full width with random weights: for GPU runs without the real ones.

    python benchmarks/random_checkpoint.py OUT --layers 4

Width, experts, heads and towers are the full model's; it has fewer decoder layers, and tokenizer, processor and chat
template of the built-in tiny model, whose token ids fit into the full vocabulary. So text, pictures and sound go in,
and nonsense comes out: the same nonsense in BF16 and in NVFP4. Speed and memory are real, answers mean nothing.

Weights are normal with a standard deviation of 0.02, as the model is initialised; norms are ones, biases zeros. The
same seed gives the same bytes. 4 layers: 8.6 GB.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from pytest_q3omni import omni
from pytest_q3omni.errors import InvalidRequest, Q3OmniError
from pytest_q3omni.omni.checkpoint import CONFIG, INDEX
from pytest_q3omni.omni.companions import companion_files
from pytest_q3omni.omni.config import read_json
from pytest_q3omni.omni.durable import check_new_directory, publish
from pytest_q3omni.omni.safetensors_file import layout
from pytest_q3omni.omni.stages import expected_tensors
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.plan.sizes import fill_shards
from pytest_q3omni.records import TensorInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

FULL_SIZE = Path(omni.__file__).with_name("qwen3_omni_30b_config.json")
STANDARD_DEVIATION = 0.02
SHARD_BYTES = 5 * 10**9
_STEPS = 1 << 16  # of the normal distribution: as many as a draw of two bytes can tell apart
_PIECE = 1 << 24  # numbers drawn at once


def config_of(layers: int, *, all_stages: bool) -> dict[str, Any]:
    """The full-size config with `layers` decoder layers and the tiny model's token ids.

    Raises:
        InvalidRequest: fewer layers than one, or more than the full size has.
    """
    full = read_json(FULL_SIZE)
    text = full["thinker_config"]["text_config"]
    if not 1 <= layers <= text["num_hidden_layers"]:
        expected = f"1 to {text['num_hidden_layers']}"
        raise InvalidRequest(f"{layers} layers", where="--layers", expected=expected, fix="choose fewer")
    text |= {"num_hidden_layers": layers, "tie_word_embeddings": False}
    full["talker_config"]["accept_hidden_layer"] = layers // 2  # of the thinker's layers; the full model's is the 24th
    full["enable_audio_output"] = all_stages
    return _with_token_ids(full, read_json(checkpoint_path() / CONFIG))


def _with_token_ids(full: Mapping[str, Any], tiny: Mapping[str, Any]) -> dict[str, Any]:
    """`full` with the token ids that `tiny` has; the codec's ids belong to the talker's own vocabulary."""
    config = dict(full)
    for key, value in full.items():
        if isinstance(value, Mapping) and isinstance(tiny.get(key), Mapping):
            config[key] = _with_token_ids(value, tiny[key])
        elif key.endswith("_token_id") and not key.startswith("codec_") and key in tiny:
            config[key] = tiny[key]
    return config


def normal_table(standard_deviation: float = STANDARD_DEVIATION) -> NDArray[Any]:
    """BF16 numbers (65536,) of which each is drawn as often as any other: the middles of equal shares."""
    import ml_dtypes
    import numpy as np

    inverse = NormalDist(0, standard_deviation).inv_cdf
    return np.array([inverse((step + 0.5) / _STEPS) for step in range(_STEPS)], np.float32).astype(ml_dtypes.bfloat16)


def values(tensor: TensorInfo, seed: tuple[int, int], table: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The numbers of one tensor, flat, in pieces. seed: of the checkpoint, and the tensor's own."""
    import numpy as np

    generator, left = np.random.default_rng(seed), prod(tensor.shape)
    while left:
        count = min(left, _PIECE)
        if tensor.name.endswith(".bias"):
            yield np.zeros(count, table.dtype)
        elif len(tensor.shape) == 1:
            yield np.ones(count, table.dtype)
        else:
            yield table[generator.integers(0, _STEPS, count, np.uint16)]
        left -= count


def write_random(out: Path, layers: int, *, all_stages: bool = False, seed: int = 0) -> int:
    """Write the checkpoint into the new directory `out`; its bytes of weights.

    Raises:
        InvalidRequest: no such number of layers, or `out` holds something.
    """
    config, table = config_of(layers, all_stages=all_stages), normal_table()
    check_new_directory(out, "OUT")
    stage = out.with_name(f".{out.name}.partial")
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    tensors = expected_tensors(config)
    own = {tensor.name: number for number, tensor in enumerate(tensors)}
    shards = fill_shards(tensors, SHARD_BYTES)
    for shard in shards:
        planned = layout(shard.tensors)
        with (stage / shard.file).open("wb") as stream:
            stream.write(planned.header)
            for tensor in planned.tensors:
                for piece in values(tensor, (seed, own[tensor.name]), table):
                    stream.write(piece.view("uint8").data)
    total = sum(shard.data_bytes for shard in shards)
    if len(shards) > 1:
        index = {tensor.name: shard.file for shard in shards for tensor in shard.tensors}
        (stage / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": index}), "utf-8")
    for file in companion_files(checkpoint_path()):
        shutil.copyfile(file, stage / file.name)
    (stage / CONFIG).write_text(json.dumps(config, indent=2), "utf-8")
    publish(stage, out)
    return total


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Write a BF16 checkpoint of full width with random weights.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, default=4, help="decoder layers of the thinker (4)")
    parser.add_argument("--all-stages", action="store_true", help="with talker, code predictor and code2wav")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    try:
        total = write_random(given.out, given.layers, all_stages=given.all_stages, seed=given.seed)
    except Q3OmniError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{given.out}: {total / 1e9:.2f} GB of random weights, {given.layers} layers\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
