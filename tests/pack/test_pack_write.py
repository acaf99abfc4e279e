"""Whole or absent: kills, full disks, other people's directories. And what comes along beside the weights."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_q3omni.errors import InvalidRequest, Unwritable
from pytest_q3omni.omni.checkpoint import open_checkpoint
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.pack.write import staging_directory, write_checkpoint
from pytest_q3omni.plan.build import build_plan
from pytest_q3omni.records import CalibrationRecord, Plan

pytestmark = pytest.mark.tiny

RECIPE, SHARD = "nvfp4-mlp-weight-only", 300_000

KILLED = """
import os, sys
from pathlib import Path
from pytest_q3omni.omni.checkpoint import open_checkpoint
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.pack.write import write_checkpoint
from pytest_q3omni.plan.build import build_plan

def killer(what, done, total):
    if done > float(sys.argv[2]) * total:
        os.kill(os.getpid(), 9)

plan = build_plan(checkpoint_path(), "nvfp4-mlp-weight-only", max_shard_bytes=300_000)
write_checkpoint(open_checkpoint(checkpoint_path()), plan, Path(sys.argv[1]), progress=killer)
"""


def the_plan() -> Plan:
    return build_plan(checkpoint_path(), RECIPE, max_shard_bytes=SHARD)


TINY = checkpoint_path()


def write(out: Path, source: Path = TINY) -> None:
    write_checkpoint(open_checkpoint(source), build_plan(source, RECIPE, max_shard_bytes=SHARD), out)


def contents(home: Path) -> dict[str, bytes]:
    return {str(file.relative_to(home)): file.read_bytes() for file in sorted(home.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_killed_run_leaves_nothing_that_looks_whole_and_the_next_one_goes_on(tmp_path: Path, share: float) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    done = subprocess.run([sys.executable, "-c", KILLED, str(out), str(share)], cwd=tmp_path, check=False)
    assert done.returncode == -9
    assert not out.exists()
    stage = staging_directory(out)
    assert not (stage / "config.json").exists(), "a directory without config.json is no checkpoint"
    finished = json.loads((stage / "state.json").read_text())["shards"] if share else {}
    assert bool(finished) == bool(share)
    before = {name: (stage / name).stat().st_mtime_ns for name in finished}
    write(out)
    assert {name: (out / name).stat().st_mtime_ns for name in finished} == before, (
        "finished shards are not written again"
    )
    shutil.copytree(checkpoint_path(), tmp_path / "copy")
    write(whole)
    assert contents(out) == {**contents(whole), "README.md": contents(out)["README.md"]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "out", "whole"]


def half_done(out: Path) -> dict[str, int]:
    """A killed run towards `out`; its finished shards with the times they were written."""
    subprocess.run([sys.executable, "-c", KILLED, str(out), "0.6"], cwd=out.parent, check=False)
    stage = staging_directory(out)
    finished = json.loads((stage / "state.json").read_text())["shards"]
    assert finished
    return {name: (stage / name).stat().st_mtime_ns for name in finished}


def taken_over(out: Path, before: dict[str, int]) -> bool:
    """Whether any finished shard of a killed run is in the checkpoint."""
    return any((out / name).exists() and (out / name).stat().st_mtime_ns == written for name, written in before.items())


def test_shards_of_other_weights_are_not_taken_over(tmp_path: Path) -> None:
    """Same headers, other files: a fine-tune in the place of its parent."""
    out, other = tmp_path / "out", tmp_path / "other"
    before = half_done(out)
    shutil.copytree(checkpoint_path(), other)
    with (other / "model.safetensors").open("r+b") as stream:
        stream.seek(-1000, 2)
        stream.write(b"?" * 1000)
    write(out, other)
    assert not taken_over(out, before)


def test_shards_of_a_source_that_was_written_again_are_not_taken_over(tmp_path: Path) -> None:
    out, source = tmp_path / "out", tmp_path / "source"
    shutil.copytree(checkpoint_path(), source)
    stage = staging_directory(out)
    with pytest.raises(Unwritable):
        failing_write(out, source)
    state = json.loads((stage / "state.json").read_text())
    assert state["shards"]
    before = {name: (stage / name).stat().st_mtime_ns for name in state["shards"]}
    os.utime(source / "model.safetensors", ns=(0, 0))
    write(out, source)
    assert not taken_over(out, before)


def failing_write(out: Path, source: Path) -> None:
    """A run that the disk stops after a third of the bytes."""

    def stop(what: str, done: int, total: int) -> None:
        if done > total / 3:
            raise OSError(28, "No space left on device")

    plan = build_plan(source, RECIPE, max_shard_bytes=SHARD)
    write_checkpoint(open_checkpoint(source), plan, out, progress=stop)


def test_shards_of_another_plan_or_record_are_not_taken_over(tmp_path: Path) -> None:
    """The same source with another recipe, and with another record of the same recipe."""
    out = tmp_path / "out"
    before = half_done(out)
    plan = build_plan(TINY, "nvfp4-default", max_shard_bytes=SHARD)

    def record(amax: float) -> CalibrationRecord:
        sites = {tensor.input_site: amax for tensor in plan.packed}
        return CalibrationRecord(plan.recipe, plan.fingerprint, sites, {}, 1, {"text": 1})

    def stop(what: str, done: int, total: int) -> None:
        if done > 2 * total / 3:
            raise OSError(28, "No space left on device")

    with pytest.raises(Unwritable):
        write_checkpoint(open_checkpoint(TINY), plan, out, record=record(1.0), progress=stop)
    stage = staging_directory(out)
    assert not any(
        (stage / name).exists() and (stage / name).stat().st_mtime_ns == written for name, written in before.items()
    )
    write_checkpoint(open_checkpoint(TINY), plan, out, record=record(2.0))
    scales = {float(open_checkpoint(out).array(name)) for name in open_checkpoint(out).entries if "input_scale" in name}
    assert len(scales) == 1, "no shard of the first record is left"


def test_a_checkpoint_that_cannot_be_published_keeps_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"

    def refuse(self: Path, target: Path) -> Path:
        raise OSError(16, "Device or resource busy")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(Unwritable, match="Device or resource busy"):
            write(out)
    stage = staging_directory(out)
    assert not (stage / "config.json").exists(), "nothing may look whole"
    before = {
        name: (stage / name).stat().st_mtime_ns for name in json.loads((stage / "state.json").read_text())["shards"]
    }
    write(out)
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    assert not (out / "state.json").exists()


def test_a_half_written_shard_does_not_count_as_needed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard's space is reserved before it is written; the next run gives it back before it asks for room."""
    out = tmp_path / "out"
    half_done(out)
    stage = staging_directory(out)
    seen = []
    real = shutil.disk_usage

    def usage(place: Path) -> object:
        seen.append(sorted(file.name for file in stage.glob("*.safetensors")))
        return real(place)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    finished = sorted(json.loads((stage / "state.json").read_text())["shards"])
    write(out)
    assert seen == [finished]


def test_everything_is_synced_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every shard, every file and every directory: what a power cut must not undo."""
    synced: set[str] = set()
    real = os.fsync

    def record(descriptor: int) -> None:
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    write(tmp_path / "out")
    shards = {shard.file for shard in the_plan().shards}
    assert shards <= synced
    assert {".config.json.partial", ".README.md.partial", "q3omni", staging_directory(tmp_path / "out").name} <= synced
    assert tmp_path.name in synced, "the rename itself"


@pytest.mark.parametrize("kind", ["link", "mount"])
def test_an_out_that_a_rename_cannot_replace_is_refused_first(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    if kind == "link":
        (tmp_path / "elsewhere").mkdir()
        out.symlink_to(tmp_path / "elsewhere")
    else:
        out.mkdir()
        monkeypatch.setattr(os.path, "ismount", lambda place: Path(place) == out)
    with pytest.raises(InvalidRequest, match="symbolic link" if kind == "link" else "mount point"):
        write(out)
    assert not staging_directory(out).exists()


def test_a_damaged_shard_of_a_killed_run_is_written_again(tmp_path: Path) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    subprocess.run([sys.executable, "-c", KILLED, str(out), "0.6"], cwd=tmp_path, check=False)
    stage = staging_directory(out)
    first = stage / min(json.loads((stage / "state.json").read_text())["shards"])
    first.write_bytes(first.read_bytes()[:-1] + b"?")
    write(out)
    write(whole)
    assert (out / first.name).read_bytes() == (whole / first.name).read_bytes()


def test_two_runs_do_not_write_the_same_checkpoint(tmp_path: Path) -> None:
    from filelock import FileLock

    stage = staging_directory(tmp_path / "out")
    with (
        FileLock(stage.with_name(f"{stage.name}.lock")),
        pytest.raises(InvalidRequest, match="another run is writing this checkpoint"),
    ):
        write(tmp_path / "out")


def test_too_little_space_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    with pytest.raises(Unwritable, match=r"1\.0 MB free; expected 3\.4 MB for the shards"):
        write(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC in the middle, as when somebody else writes to the same disk."""

    def full(descriptor: int, data: object, offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(Unwritable, match=r"No space left on device.*free disk space.*then run the same command again"):
        write(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    write(tmp_path / "out")
    assert open_checkpoint(tmp_path / "out")


def test_an_out_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unwritable, match="Not a directory"):
        write(tmp_path / "file" / "out")


def test_an_empty_out_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write(tmp_path / "out")
    assert open_checkpoint(tmp_path / "out")


def test_companions_come_along_and_strangers_do_not(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(checkpoint_path(), source)
    (source / "pytorch_model.bin").write_bytes(b"a pickle")
    (source / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": dict.fromkeys(open_checkpoint(source).entries, "model.safetensors")})
    )
    (source / "LICENSE").write_text("terms")
    (source / "hf_quant_config.json").write_text("{}")
    write(tmp_path / "out", source)
    made = {file.name for file in (tmp_path / "out").iterdir()}
    companions = {file.name for file in checkpoint_path().iterdir()} - {"model.safetensors"}
    assert companions | {"LICENSE", "q3omni"} <= made
    assert not made & {"pytorch_model.bin", "hf_quant_config.json"}
    for name in companions - {"config.json", "README.md"}:
        assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes(), name


def test_the_config_is_the_sources_with_the_plans_declaration(tmp_path: Path) -> None:
    write(tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    block = config.pop("quantization_config")
    assert config == json.loads((checkpoint_path() / "config.json").read_text())
    assert set(block["quantized_layers"]) == {f"thinker.model.layers.{layer}.mlp.experts" for layer in (0, 1)}


def test_a_field_that_engines_read_and_transformers_leaves_out_is_written(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(checkpoint_path(), source)
    config = json.loads((source / "config.json").read_text())
    assert config["thinker_config"]["text_config"].pop("tie_word_embeddings") is False
    (source / "config.json").write_text(json.dumps(config))
    write(tmp_path / "out", source)
    made = json.loads((tmp_path / "out" / "config.json").read_text())
    assert made["thinker_config"]["text_config"]["tie_word_embeddings"] is False


def test_provenance_names_every_file_by_its_hash(tmp_path: Path) -> None:
    import hashlib

    write(tmp_path / "out")
    own = tmp_path / "out" / "q3omni"
    provenance = json.loads((own / "provenance.json").read_text())
    assert set(provenance["sha256"]) == {shard.file for shard in the_plan().shards} | {"plan.json"}
    for name, digest in provenance["sha256"].items():
        file = own / name if (own / name).exists() else tmp_path / "out" / name
        assert hashlib.sha256(file.read_bytes()).hexdigest() == digest, name
    assert provenance["source_fingerprint"] == open_checkpoint(checkpoint_path()).fingerprint()


def test_the_card_is_written_from_the_plan(tmp_path: Path) -> None:
    source = tmp_path / "models--Someone--Some-Omni" / "snapshots" / "0"
    shutil.copytree(checkpoint_path(), source)
    card = "---\nlicense: other\nlicense_name: some-licence\nlicense_link: LICENSE\ntags: [x]\n---\n# Model\n"
    (source / "README.md").write_text(card)
    write(tmp_path / "out", source)
    text = (tmp_path / "out" / "README.md").read_text()
    front = text.split("---\n")[1]
    assert "- Someone/Some-Omni\n" in front
    assert "license: other\nlicense_name: some-licence\nlicense_link: LICENSE\n" in front
    plan = the_plan()
    assert f"{100 * plan.quantized_fraction:.2f} %" in text
    assert "| thinker |" in text
    assert "| experts |" in text


def test_a_source_without_a_card_gets_no_invented_licence(tmp_path: Path) -> None:
    source = tmp_path / "my-omni"
    shutil.copytree(checkpoint_path(), source, ignore=shutil.ignore_patterns("README.md"))
    write(tmp_path / "out", source)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "license" not in text
    assert "- my-omni\n" in text
