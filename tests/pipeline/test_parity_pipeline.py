"""Which engines a comparison opens, and what it refuses before it opens any. Nothing here needs torch."""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from pytest_q3omni import __version__
from pytest_q3omni.engines import handle as handles
from pytest_q3omni.engines import modelopt
from pytest_q3omni.errors import Incomplete, Inconsistent, InvalidRequest, MissingDependency
from pytest_q3omni.omni.checkpoint import open_checkpoint
from pytest_q3omni.omni.conversations import Conversation
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.pipeline import parity

pytestmark = pytest.mark.tiny

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))

from _checkpoint_edit import pack, read, write  # noqa: E402

TINY = checkpoint_path()
LAYER = "thinker.model.layers.0"
EXPERT = f"{LAYER}.mlp.experts.3"
HELLO = Conversation("mine:1", ({"role": "user", "content": ({"type": "text", "text": "hello"},)},))


@pytest.fixture
def copy(quantized_checkpoint: Path, tmp_path: Path) -> Path:
    """The packed tiny model, to be damaged."""
    return Path(shutil.copytree(quantized_checkpoint, tmp_path / "quantized"))


@pytest.fixture(autouse=True)
def nothing_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_(self: handles.ModelHandle, speech: bool) -> None:
        raise AssertionError(f"{self} was opened")

    monkeypatch.setattr(handles.ModelHandle, "_open", open_)


# --- engines


def test_the_engines_of_a_w4a4_checkpoint(quantized_checkpoint: Path) -> None:
    found = parity.contestants(TINY, quantized_checkpoint, device="cuda:1")
    plain = found.plain((), ())
    engines = [found.original, found.repeat, plain, *found.quantized.values()]
    assert [engine.device for engine in engines] == ["cuda:1"] * 5
    assert [engine.path for engine in engines] == [TINY] * 3 + [quantized_checkpoint] * 2
    assert [engine.numerics for engine in engines] == ["bf16", "bf16", "w4a4", "w4a16", "w4a4"]
    assert list(found.quantized) == ["w4a16", "w4a4"]
    assert (found.original._attention, found.repeat._attention) == (None, "eager")
    assert len(found.input_scales) == 2 * (4 + 8 * 3)
    assert handles.open_models() == ()


def test_numerics_can_be_chosen(quantized_checkpoint: Path) -> None:
    assert list(parity.contestants(TINY, quantized_checkpoint, numerics=["w4a4"], device="cpu").quantized) == ["w4a4"]
    assert list(parity.contestants(TINY, TINY, device="cpu").quantized) == ["bf16"]


def test_only_inputs_that_have_a_scale_are_rounded(copy: Path) -> None:
    weight_only = f"{LAYER}.self_attn.o_proj"
    write(copy, {f"{weight_only}.input_scale": None})
    source, target = open_checkpoint(TINY), open_checkpoint(copy)
    packed = parity.packed_modules(target)
    tensors = parity.packed_tensors(source, packed, parity.input_scales(target, packed))
    assert len(tensors) == len(source.tensors)
    sites = {tensor.module: tensor.input_site for tensor in tensors if tensor.action == "nvfp4"}
    assert sites.keys() == packed
    assert [module for module, site in sites.items() if not site] == [weight_only]
    assert sites[f"{EXPERT}.up_proj"] == f"{LAYER}.mlp.experts.gate_up_proj"


# --- refusals


def test_no_conversations_are_refused(quantized_checkpoint: Path) -> None:
    with pytest.raises(InvalidRequest, match="no conversations; expected one at least"):
        parity.compare_checkpoints(TINY, quantized_checkpoint, [], device="cpu")


def test_a_packed_original_is_refused(quantized_checkpoint: Path) -> None:
    with pytest.raises(InvalidRequest, match="the original is packed; expected the BF16 original"):
        parity.contestants(quantized_checkpoint, TINY, device="cpu")


def test_an_original_without_a_packed_module_is_refused(copy: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(TINY, tmp_path / "other"))
    write(other, {f"{EXPERT}.up_proj.weight": None})
    with pytest.raises(Inconsistent, match=rf"other: 1 packed modules are not in the original.*{EXPERT}\.up_proj;"):
        parity.contestants(other, copy, device="cpu")


@pytest.mark.parametrize(
    "name",
    [f"{EXPERT}.up_proj.weight", f"{LAYER}.input_layernorm.weight", "talker.model.layers.0.input_layernorm.weight"],
)
def test_a_checkpoint_that_lacks_tensors_is_refused(copy: Path, name: str) -> None:
    scales = [f"{name}_{suffix}" for suffix in ("scale", "scale_2")]
    write(copy, dict.fromkeys({name, *scales} & open_checkpoint(copy).entries.keys()))
    with pytest.raises(Incomplete, match=rf"quantized: 1 tensors that the original has are missing.*: {name};"):
        parity.contestants(TINY, copy, device="cpu")


def test_a_checkpoint_that_lost_its_voice_is_asked_for_text(copy: Path) -> None:
    """Without code2wav nothing is spoken, so the talker need not be whole either."""
    voice = [name for name in open_checkpoint(copy).entries if name.startswith(("code2wav.", "talker.model.layers.0."))]
    write(copy, dict.fromkeys(voice))
    assert not any(engine.speaks for engine in parity.contestants(TINY, copy, device="cpu").quantized.values())


@pytest.mark.parametrize("what", ["scales of one", "one is not packed"])
def test_experts_with_input_scales_in_part_are_refused(copy: Path, what: str) -> None:
    module = f"{EXPERT}.down_proj"
    if what == "scales of one":
        write(copy, {f"{module}.input_scale": None})
    else:
        weight = open_checkpoint(TINY).array(f"{module}.weight")
        scales = [f"{module}.{suffix}" for suffix in ("weight_scale", "weight_scale_2", "input_scale")]
        write(copy, {f"{module}.weight": weight, **dict.fromkeys(scales)})
    text = rf"{LAYER}\.mlp\.experts: 1 of its experts' projections have no input scale, the first: {module};"
    with pytest.raises(Inconsistent, match=text):
        parity.contestants(TINY, copy, device="cpu")


def test_a_layer_whose_experts_have_no_input_scales_at_all_is_weight_only(copy: Path) -> None:
    names = [name for name in open_checkpoint(copy).entries if name.startswith(f"{LAYER}.mlp.experts.")]
    write(copy, {name: None for name in names if name.endswith(".input_scale")})
    found = parity.contestants(TINY, copy, device="cpu")
    assert len(found.input_scales) == 2 * 4 + 8 * 3


def test_a_packed_talker_is_calibrated_on_speech(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the thinker alone is packed, speech would cost time and tell nothing."""
    heard: list[object] = []
    monkeypatch.setattr(parity, "_calibration", lambda original, targets, spoken: heard.append(spoken))
    parity.contestants(TINY, copy, device="cpu").plain((), ("speech",))
    module = "talker.model.layers.0.mlp.experts.0.up_proj"
    pack(copy, module, read(copy, f"{module}.weight"))
    parity.contestants(TINY, copy, device="cpu").plain((), ("speech",))
    assert heard == [(), ("speech",)]


# --- what is installed


def pretend(monkeypatch: pytest.MonkeyPatch, *absent: str) -> None:
    """All packages of the extra are there, but these."""
    monkeypatch.setattr(parity, "find_spec", lambda name: None if name in absent else object())

    def version(name: str) -> str:
        if name in absent:
            raise PackageNotFoundError(name)
        return "0.47.1"

    monkeypatch.setattr(parity, "version", version)
    monkeypatch.setattr(modelopt, "version", version)


@pytest.mark.parametrize("absent", ["torch", "transformers", "scipy", "requests", "nvidia-modelopt"])
def test_what_is_not_installed_is_said_before_anything_runs(
    quantized_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    pretend(monkeypatch, absent)
    with pytest.raises(MissingDependency, match=rf"needs {absent}>=.*pip install 'pytest-q3omni\[quantize\]'"):
        parity.compare_checkpoints(TINY, quantized_checkpoint, [HELLO], device="cpu")


def test_a_modelopt_of_another_release_is_refused(quantized_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    monkeypatch.setattr(modelopt, "version", lambda name: "0.48.0")
    with pytest.raises(MissingDependency, match=r"nvidia-modelopt 0\.48\.0 is installed"):
        parity.compare_checkpoints(TINY, quantized_checkpoint, [HELLO], device="cpu")


def test_where_nothing_is_packed_modelopt_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "nvidia-modelopt", "requests")
    monkeypatch.setattr(parity, "compare", lambda engines, *_, versions, **more: versions)
    found = parity.compare_checkpoints(TINY, TINY, [HELLO], device="cpu")
    assert found == {"pytest-q3omni": __version__, "torch": "0.47.1", "transformers": "0.47.1"}


def test_what_can_be_refused_needs_no_package(quantized_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "torch", "transformers", "scipy", "requests", "nvidia-modelopt")
    with pytest.raises(InvalidRequest, match="numerics bf16"):
        parity.compare_checkpoints(TINY, quantized_checkpoint, [HELLO], numerics=["bf16"], device="cpu")
