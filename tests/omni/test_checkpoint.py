"""Reading a checkpoint directory: what is accepted, what is refused, and that every fault is named."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pytest_q3omni.errors import Inconsistent, InvalidRequest, Unreadable
from pytest_q3omni.omni.checkpoint import INDEX, open_checkpoint, scan, source_tensors
from pytest_q3omni.omni.safetensors_file import layout, nbytes
from pytest_q3omni.omni.stages import expected_tensors
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.records import TensorInfo

pytestmark = pytest.mark.tiny


def write_shard(file: Path, tensors: list[TensorInfo], fill: int = 0) -> None:
    made = layout(tensors)
    file.write_bytes(made.header + bytes([fill]) * made.data_bytes)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """Two shards with an index, one tensor each."""
    home = tmp_path / "model"
    home.mkdir()
    (home / "config.json").write_text(json.dumps({"model_type": "qwen3_omni_moe"}))
    names = {"a.weight": "model-00001-of-00002.safetensors", "b.weight": "model-00002-of-00002.safetensors"}
    for number, (name, file) in enumerate(names.items()):
        write_shard(home / file, [TensorInfo(name, "BF16", (2, 4))], fill=number + 1)
    (home / INDEX).write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": names}))
    return home


def test_the_tiny_checkpoint_holds_what_its_config_implies() -> None:
    checkpoint = open_checkpoint(checkpoint_path())
    assert sorted(checkpoint.tensors, key=str) == sorted(expected_tensors(checkpoint.config), key=str)


def test_arrays_equal_those_of_the_library() -> None:
    torch = pytest.importorskip("torch", reason="needs the quantize extra: pip install 'pytest-q3omni[quantize]'")
    safe_open = pytest.importorskip("safetensors").safe_open
    checkpoint = open_checkpoint(checkpoint_path())
    with safe_open(checkpoint_path() / "model.safetensors", "pt") as library:
        for name in list(library.keys())[::50]:
            theirs = library.get_tensor(name)
            ours = checkpoint.array(name)
            assert ours.shape == tuple(theirs.shape)
            assert ours.tobytes() == theirs.view(torch.uint8).numpy().tobytes(), name


def test_a_part_of_a_tensor_is_read_into_a_buffer(sharded: Path) -> None:
    checkpoint = open_checkpoint(sharded)
    buffer = np.zeros(64, np.uint8)
    part = checkpoint.read("b.weight", buffer, start=4, stop=10)
    assert part.tolist() == [2] * 6
    assert part.base is buffer


def test_a_file_cut_after_its_header_was_read_is_named(sharded: Path) -> None:
    checkpoint = open_checkpoint(sharded)
    file = checkpoint.entries["a.weight"].file
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(Unreadable, match=r"a\.weight: ends too early"):
        checkpoint.array("a.weight")


def test_fused_expert_files_are_refused_by_name(sharded: Path) -> None:
    name = "thinker.model.layers.0.mlp.experts.gate_up_proj"
    write_shard(sharded / "model-00001-of-00002.safetensors", [TensorInfo(name, "BF16", (8, 128, 128))])
    with pytest.raises(Inconsistent, match=r"layers\.0\.mlp\.experts\.gate_up_proj.*save_pretrained, which unfuses"):
        open_checkpoint(sharded)


def test_a_shard_that_only_the_index_knows_is_named(sharded: Path) -> None:
    (sharded / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(Unreadable, match=r"model-00002-of-00002\.safetensors: named by the index, does not exist"):
        open_checkpoint(sharded)


def test_a_tensor_in_two_shards_is_named(sharded: Path) -> None:
    write_shard(sharded / "model-00002-of-00002.safetensors", [TensorInfo("a.weight", "BF16", (2, 4))])
    with pytest.raises(Inconsistent, match=r"a\.weight: stored in .*00001.* and in .*00002"):
        open_checkpoint(sharded)


def test_a_damaged_index_is_named(sharded: Path) -> None:
    for content in ("{", "[]", json.dumps({"weight_map": 3}), json.dumps({"weight_map": {"a": 1}})):
        (sharded / INDEX).write_text(content)
        with pytest.raises(Unreadable, match=INDEX):
            open_checkpoint(sharded)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/hostname", "sub/inside.safetensors"])
def test_an_index_that_points_elsewhere_is_refused(sharded: Path, name: str) -> None:
    (sharded.parent / "outside.safetensors").write_bytes(b"")
    (sharded / INDEX).write_text(json.dumps({"weight_map": {"a.weight": name}}))
    with pytest.raises(Inconsistent, match="leaves the checkpoint's directory"):
        open_checkpoint(sharded)


def test_a_link_out_of_the_directory_is_refused(sharded: Path) -> None:
    outside = sharded.parent / "outside.safetensors"
    file = sharded / "model-00001-of-00002.safetensors"
    shutil.move(file, outside)
    file.symlink_to(outside)
    with pytest.raises(Inconsistent, match="leaves the checkpoint's directory"):
        open_checkpoint(sharded)


def test_links_into_the_hub_caches_own_blobs_are_followed(sharded: Path) -> None:
    repository = sharded.parent / "models--a--b"
    home = repository / "snapshots" / "0123"
    blobs = repository / "blobs"
    home.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(sorted(sharded.iterdir())):
        shutil.move(file, blobs / str(number))
        (home / file.name).symlink_to(Path("../../blobs") / str(number))
    assert set(open_checkpoint(home).entries) == {"a.weight", "b.weight"}


def test_no_weights_and_no_directory_are_different_answers(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(Unreadable, match=r"no \*\.safetensors file"):
        open_checkpoint(tmp_path)
    with pytest.raises(Unreadable, match="no such directory"):
        scan(tmp_path / "nowhere")
    with pytest.raises(Unreadable, match="not a directory"):
        scan(tmp_path / "config.json")
    with pytest.raises(Unreadable, match=r"config\.json: No such file"):
        scan(tmp_path.parent)


def test_a_config_file_alone_gives_the_same_tensors_as_the_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "any name.json"
    shutil.copy(checkpoint_path() / "config.json", file)
    config, tensors = source_tensors(file)
    whole_config, whole = source_tensors(checkpoint_path())
    assert config == whole_config
    assert sorted(tensors, key=str) == sorted(whole, key=str)
    assert sum(map(nbytes, tensors)) == sum(map(nbytes, whole))


def test_the_fingerprint_follows_config_and_headers_not_their_order(sharded: Path) -> None:
    before = open_checkpoint(sharded).fingerprint()
    for file in sharded.glob("*.safetensors"):
        file.unlink()
    (sharded / INDEX).unlink()
    write_shard(sharded / "model.safetensors", [TensorInfo(name, "BF16", (2, 4)) for name in ("b.weight", "a.weight")])
    assert open_checkpoint(sharded).fingerprint() == before
    write_shard(sharded / "model.safetensors", [TensorInfo(name, "BF16", (4, 2)) for name in ("b.weight", "a.weight")])
    assert open_checkpoint(sharded).fingerprint() != before


def test_an_address_is_no_directory() -> None:
    for read in (scan, source_tensors):
        with pytest.raises(InvalidRequest, match=r"an address \(hf://\).*download it"):
            read(Path("hf://Qwen/Qwen3-Omni-30B-A3B-Instruct"))


def test_a_link_to_nowhere_and_a_pointer_are_told_from_weights(sharded: Path) -> None:
    first, second = sorted(sharded.glob("*.safetensors"))
    first.unlink()
    first.symlink_to(sharded / "gone.safetensors")
    second.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5000000000\n")
    found = [problem.found for problem in scan(sharded).problems]
    assert found == ["a link to nowhere", "a git-lfs pointer, not the weights"]


def test_a_fine_tune_has_the_same_fingerprint_and_another_sample(sharded: Path) -> None:
    before = open_checkpoint(sharded)
    sample = before.weights_sample()
    write_shard(sharded / "model-00001-of-00002.safetensors", [TensorInfo("a.weight", "BF16", (2, 4))], fill=9)
    after = open_checkpoint(sharded)
    assert after.fingerprint() == before.fingerprint()
    assert after.weights_sample() != sample
