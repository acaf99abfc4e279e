"""`q3omni verify hf://...` as it is typed: endpoint, token, cache and offline mode come from the environment."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import TINY, refused

sys.path.insert(0, str(Path(__file__).parents[1] / "omni"))
from hub_server import ADDRESS, API, COMMIT, PINNED, Hub, serve  # another folder of tests has it

pytestmark = pytest.mark.tiny


@pytest.fixture
def hub(weight_only: Path) -> Iterator[Hub]:
    with serve(weight_only) as made:
        yield made


def typed(hub: Hub | None, *arguments: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).with_name("q3omni")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    own = {"HF_HOME": str(cwd / "hf"), "NO_PROXY": "127.0.0.1", "HF_ENDPOINT": "" if hub is None else hub.url}
    return subprocess.run(
        [script, *map(str, arguments)],
        cwd=cwd, env={**kept, **own, **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_verify_says_what_it_fetched(hub: Hub, weight_only: Path, tmp_path: Path) -> None:
    done = typed(hub, "verify", ADDRESS, cwd=tmp_path, HF_TOKEN="hf_secret")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"fetched: {hub.sent:,} bytes in {len(hub.log):,} requests, none of the weights" in done.stdout
    assert done.stdout.lstrip().startswith(PINNED)
    assert {asked.authorization for asked in hub.log if asked.server == "store"} == {""}
    assert "Bearer hf_secret" in {asked.authorization for asked in hub.log}


def test_json_has_it_too_and_the_local_findings(hub: Hub, weight_only: Path, tmp_path: Path) -> None:
    done = typed(hub, "verify", f"{ADDRESS}@main", "--format", "json", cwd=tmp_path)
    there = json.loads(done.stdout)
    assert there["fetched"] == {"bytes": hub.sent, "requests": len(hub.log)}
    assert there["checkpoint"] == PINNED
    here = json.loads(typed(None, "verify", weight_only, "--format", "json", cwd=tmp_path).stdout)
    assert here["fetched"] is None
    assert {name: of["state"] for name, of in there["verdicts"].items()} == {
        name: of["state"] for name, of in here["verdicts"].items()
    }
    for name in ("findings", "facts"):
        assert there[name] == here[name]


def test_faithful_is_not_checked_and_may_be_required(hub: Hub, tmp_path: Path) -> None:
    done = typed(hub, "verify", ADDRESS, "--source", TINY, "--require", "faithful", cwd=tmp_path)
    assert done.returncode == 2
    assert "required, but not checked: faithful: needs the weights, which stay on the hub" in done.stderr


def test_a_fault_ends_in_1_and_a_hub_that_does_not_serve_parts_in_2(
    hub: Hub, weight_only: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(weight_only, broken)
    file = broken / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with serve(broken) as other:
        done = typed(other, "verify", ADDRESS, cwd=tmp_path)
        assert done.returncode == 1
        assert "the tensors end at byte" in done.stdout
    hub.modes["model.safetensors"] = "whole"
    message = refused(typed(hub, "verify", ADDRESS, cwd=tmp_path))
    assert message.startswith(f"q3omni: {PINNED}/model.safetensors: the server ignores ranges")


@pytest.mark.parametrize(
    ("mode", "text"),
    [("gated", "gated: its owner wants terms accepted"), ("404", "HTTP 404"), ("other size", "as listed")],
)
def test_no_traceback_whatever_the_hub_does(hub: Hub, mode: str, text: str, tmp_path: Path) -> None:
    hub.modes["model.safetensors"] = mode
    assert text in refused(typed(hub, "verify", ADDRESS, cwd=tmp_path))


def test_names_that_lead_nowhere(hub: Hub, tmp_path: Path) -> None:
    assert "no such repository" in refused(typed(hub, "verify", "hf://owner/other", cwd=tmp_path))
    assert "no such revision" in refused(typed(hub, "verify", f"{ADDRESS}@v9", cwd=tmp_path))
    assert "not the address of a model" in refused(typed(hub, "verify", "hf://name", cwd=tmp_path))
    hub.modes[API] = "nonsense"
    assert "no listing of a repository" in refused(typed(hub, "verify", ADDRESS, cwd=tmp_path))


def test_plan_takes_an_address(tmp_path: Path) -> None:
    with serve(Path(TINY)) as hub:
        there = typed(hub, "plan", ADDRESS, "--recipe", "nvfp4-default", "--format", "json", cwd=tmp_path)
    here = typed(None, "plan", TINY, "--recipe", "nvfp4-default", "--format", "json", cwd=tmp_path)
    assert json.loads(there.stdout) == json.loads(here.stdout)


def test_a_packed_checkpoint_is_refused_by_its_address(hub: Hub, tmp_path: Path) -> None:
    message = refused(typed(hub, "plan", ADDRESS, "--recipe", "nvfp4-default", cwd=tmp_path))
    assert message.startswith(f"q3omni: {PINNED}: this checkpoint is already quantized")


def test_other_verbs_read_directories_only(hub: Hub, tmp_path: Path) -> None:
    message = refused(typed(hub, "quantize", ADDRESS, "out", "--recipe", "nvfp4-mlp-weight-only", cwd=tmp_path))
    assert "an address (hf://)" in message
    assert not hub.log


def test_offline_the_cache_is_judged_or_nothing(hub: Hub, weight_only: Path, tmp_path: Path) -> None:
    message = refused(typed(hub, "verify", ADDRESS, cwd=tmp_path, HF_HUB_OFFLINE="1"))
    assert "offline mode (HF_HUB_OFFLINE), and its weights are not in the cache" in message
    repository = tmp_path / "hf" / "hub" / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    home = repository / "snapshots" / COMMIT
    home.mkdir(parents=True)
    shutil.copy(weight_only / "config.json", home)
    message = refused(typed(hub, "verify", ADDRESS, cwd=tmp_path, HF_HUB_OFFLINE="1"))
    assert "its weights are not in the cache" in message
    shutil.copytree(weight_only, home, dirs_exist_ok=True)
    done = typed(hub, "verify", ADDRESS, cwd=tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done
    assert "fetched:" not in done.stdout
    assert not hub.log
