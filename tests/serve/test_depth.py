"""Fewer layers: config, declaration, tensors, bytes."""

from dataclasses import replace

import pytest
from packed_tiny import pack, with_config

from pytest_q3omni.errors import Inconsistent, InvalidRequest
from pytest_q3omni.layouts import layout_names, layout_of
from pytest_q3omni.omni.checkpoint import open_checkpoint
from pytest_q3omni.omni.safetensors_file import nbytes
from pytest_q3omni.omni.stages import expected_tensors
from pytest_q3omni.serve.depth import (
    check_depth,
    cut_bytes,
    cut_config,
    cut_declaration,
    first_packed_layer,
    kept_tensors,
    layers_that_fit,
    thinker_layers,
)
from pytest_q3omni.serve.twins import write_twin

pytestmark = pytest.mark.tiny


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    home = tmp_path_factory.mktemp("packed")
    return {name: pack(home / name, name) for name in layout_names()}


def test_a_cut_config_describes_the_tensors_of_the_twin(packed, tmp_path):
    for layers in (1, 2):
        write_twin(packed["modelopt"], tmp_path / str(layers), layers=layers)
        config = cut_config(packed["modelopt"].config, layers)
        assert thinker_layers(config) == layers
        described = {tensor.name for tensor in expected_tensors(config)}
        assert described == open_checkpoint(tmp_path / str(layers)).entries.keys()


def test_lists_by_layer_are_shortened_and_the_vision_towers_are_not(packed):
    def change(config):
        text = config["thinker_config"]["text_config"]
        text |= {"num_hidden_layers": 8, "layer_types": [f"kind {n}" for n in range(8)], "mlp_only_layers": [1, 5]}
        config["thinker_config"]["vision_config"]["deepstack_visual_indexes"] = [0, 1, 5]

    whole = with_config(packed["modelopt"], change).config
    cut = cut_config(whole, 3)
    text = cut["thinker_config"]["text_config"]
    assert text["layer_types"] == ["kind 0", "kind 1", "kind 2"]
    assert text["mlp_only_layers"] == [1]
    assert cut["thinker_config"]["vision_config"] == whole["thinker_config"]["vision_config"]
    assert whole["thinker_config"]["text_config"]["num_hidden_layers"] == 8, "the source's config is not touched"


@pytest.mark.parametrize("name", layout_names())
def test_a_declaration_names_what_is_left(packed, name):
    block = cut_config(packed[name].config, 1)["quantization_config"]
    assert "thinker.model.layers.1." not in str(block)
    assert "thinker.model.layers.0." in str(block)
    assert "talker" not in str(block)
    found = layout_of(block)
    assert found is not None
    assert not found.declared(block).faults


@pytest.mark.parametrize("name", layout_names())
def test_weights_alone_are_declared_so(packed, name):
    declared = {}
    for weight_only in (False, True):
        block = cut_config(packed[name].config, 2, weight_only=weight_only)["quantization_config"]
        found = layout_of(block).declared(block)
        assert not found.faults
        declared[weight_only] = {found.everything, *found.modules.values()} - {None}
    assert declared == {False: {"w4a4"}, True: {"w4a16"}}


def test_a_group_for_later_layers_alone_goes():
    weights = {"num_bits": 4, "type": "float"}
    groups = {
        "early": {"targets": ["thinker.model.layers.0.mlp.down_proj"], "weights": weights},
        "late": {"targets": ["thinker.model.layers.7.mlp.down_proj"], "weights": weights},
    }
    cut = cut_declaration({"config_groups": groups}, 1, weight_only=False)
    assert list(cut["config_groups"]) == ["early"]


def test_bytes_and_depth(packed):
    checkpoint = packed["modelopt"]
    small, large = cut_bytes(checkpoint, 1), cut_bytes(checkpoint, 2)
    names = kept_tensors(checkpoint, 2)
    assert large[0] == sum(nbytes(checkpoint.entries[name].info) for name in names)
    assert all(one < other for one, other in zip(small, large, strict=True))
    assert large[1] > large[0], "BF16 is larger"
    assert layers_that_fit(checkpoint, sum(large), most=4) == 2
    assert layers_that_fit(checkpoint, sum(large) - 1, most=4) == 1
    assert layers_that_fit(checkpoint, sum(large), most=1) == 1
    with pytest.raises(InvalidRequest, match="for one layer"):
        layers_that_fit(checkpoint, sum(small) - 1, most=4)


@pytest.mark.parametrize("layers", [0, -1, 3])
def test_a_depth_that_is_none(packed, layers):
    with pytest.raises(InvalidRequest, match="1 to 2"):
        check_depth(packed["modelopt"], layers)


def test_another_model_is_refused(packed):
    with pytest.raises(Inconsistent, match="model_type"):
        thinker_layers({**packed["modelopt"].config, "model_type": "llama"})


def test_the_first_packed_layer_is_found(packed):
    whole = packed["modelopt"]
    assert first_packed_layer(whole) == 0

    def without(unwanted):
        return replace(whole, entries={name: at for name, at in whole.entries.items() if unwanted not in name})

    assert first_packed_layer(without("thinker.model.layers.0.")) == 1
    with pytest.raises(InvalidRequest, match="nothing is packed in the thinker's layers"):
        first_packed_layer(without("thinker.model.layers."))
