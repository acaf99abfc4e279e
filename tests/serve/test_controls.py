"""Every control damages what it says, in one layer, and the judge of files with a source sees most of them, too."""

import ml_dtypes
import numpy as np
import pytest
from packed_tiny import pack

from pytest_q3omni.errors import Inconsistent, InvalidRequest, UnknownName
from pytest_q3omni.layouts import layout, layout_names
from pytest_q3omni.omni.checkpoint import open_checkpoint
from pytest_q3omni.records import TensorInfo
from pytest_q3omni.serve.controls import CONTROLS, Packed, spoiled
from pytest_q3omni.serve.twins import write_cut, write_twin

pytestmark = pytest.mark.tiny

LAYER = "thinker.model.layers.1"


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    home = tmp_path_factory.mktemp("packed")
    return {name: pack(home / name, name) for name in layout_names()}


@pytest.mark.parametrize("name", layout_names())
@pytest.mark.parametrize("control", CONTROLS)
def test_one_layer_is_another_and_the_rest_is_not(packed, name, control, tmp_path):
    write_cut(packed[name], tmp_path / "cut", control=control, layer=1)
    cut = open_checkpoint(tmp_path / "cut")
    changed = {tensor for tensor in cut.entries if not np.array_equal(cut.read(tensor), packed[name].read(tensor))}
    assert changed
    assert all(tensor.startswith(f"{LAYER}.") for tensor in changed)


def weights(checkpoint, tmp_path):
    """What the packed weights stand for."""
    write_twin(checkpoint, tmp_path / f"twin of {checkpoint.path.name}")
    twin = open_checkpoint(tmp_path / f"twin of {checkpoint.path.name}")
    return {name: twin.array(name).astype(np.float32) for name in twin.entries if f"{LAYER}." in name}


@pytest.mark.parametrize("name", layout_names())
def test_what_it_means(packed, name, tmp_path):
    """In weights, whatever the layout: the same fault in the direction of either one's scale."""
    sound, found = weights(packed[name], tmp_path), {}
    for control in CONTROLS:
        write_cut(packed[name], tmp_path / control, control=control, layer=1)
        found[control] = weights(open_checkpoint(tmp_path / control), tmp_path)
    for projection in "qkvo":
        weight = f"{LAYER}.self_attn.{projection}_proj.weight"
        assert np.allclose(found["attention-scale-doubled"][weight], 2 * sound[weight], rtol=2.0**-7)
        swapped = sound[weight].reshape(len(sound[weight]), -1, 2)[:, :, ::-1].reshape(sound[weight].shape)
        assert np.array_equal(found["nibbles-swapped"][weight], swapped)
    for number in range(8):
        ours, theirs = (f"{LAYER}.mlp.experts.{n}.down_proj.weight" for n in (number, (number + 1) % 8))
        assert np.array_equal(found["experts-rotated"][ours], sound[theirs])
    clipped = found["input-scales-100-times-too-small"]
    assert all(np.array_equal(clipped[weight], sound[weight]) for weight in sound), "weights alone never see it"


@pytest.mark.parametrize("name", layout_names())
def test_input_scales_are_a_hundredth(packed, name, tmp_path):
    from pytest_q3omni.engines.packed import input_scales, packed_modules

    write_cut(packed[name], tmp_path / "cut", control="input-scales-100-times-too-small", layer=0)
    cut = open_checkpoint(tmp_path / "cut")
    modules = {module for module in packed_modules(cut) if ".layers.0." in module}
    sound, found = input_scales(packed[name], modules), input_scales(cut, modules)
    assert modules
    assert found == pytest.approx({module: scale / 100 for module, scale in sound.items()}, rel=1e-5)


def test_attention_that_is_not_packed_is_doubled_in_bf16(tmp_path):
    """Exactly: a factor of two changes an exponent."""
    checkpoint = pack(tmp_path / "packed", recipe="nvfp4-mlp-weight-only")
    write_cut(checkpoint, tmp_path / "cut", control="attention-scale-doubled", layer=1)
    cut, weight = open_checkpoint(tmp_path / "cut"), f"{LAYER}.self_attn.v_proj.weight"
    assert cut.array(weight).dtype == ml_dtypes.bfloat16
    assert np.array_equal(
        cut.array(weight), (2 * checkpoint.array(weight).astype(np.float32)).astype(ml_dtypes.bfloat16)
    )


def test_a_fault_without_a_place_is_refused(tmp_path):
    checkpoint = pack(tmp_path / "packed", recipe="nvfp4-mlp-weight-only")
    with pytest.raises(InvalidRequest, match="nothing there"):
        write_cut(checkpoint, tmp_path / "cut", control="input-scales-100-times-too-small")
    with pytest.raises(InvalidRequest, match=r"layers\.7"):
        write_cut(checkpoint, tmp_path / "cut", control="experts-rotated", layer=7)


def test_an_unknown_control_is_named(packed, tmp_path):
    with pytest.raises(UnknownName, match="experts-rotated"):
        write_cut(packed["modelopt"], tmp_path / "cut", control="experts-shuffled")


def test_experts_that_are_not_alike_are_named():
    names = [f"{LAYER}.mlp.experts.{number}.down_proj.weight" for number in range(2)]
    tensors = {name: TensorInfo(name, "U8", (4, 8 + number)) for number, name in enumerate(names)}
    with pytest.raises(Inconsistent, match=r"experts\.1\.down_proj"):
        spoiled("experts-rotated", Packed(tensors, set(), layout("modelopt")), 1)
