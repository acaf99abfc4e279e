"""A packed checkpoint's tensors as those of the BF16 model, in every layout."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.tiny

torch = pytest.importorskip("torch", reason="needs the quantize extra: pip install pytest-q3omni[quantize]")
np = pytest.importorskip("numpy")

from pytest_q3omni.calibrate.record import load_record  # noqa: E402
from pytest_q3omni.engines.packed import (  # noqa: E402
    as_bf16,
    bf16_bytes,
    file_numerics,
    input_scales,
    packed_modules,
)
from pytest_q3omni.errors import InvalidRequest  # noqa: E402
from pytest_q3omni.layouts import layout_names  # noqa: E402
from pytest_q3omni.omni.checkpoint import open_checkpoint  # noqa: E402
from pytest_q3omni.omni.tiny import checkpoint_path, record_path  # noqa: E402
from pytest_q3omni.pack.write import write_checkpoint  # noqa: E402
from pytest_q3omni.plan.build import build_plan  # noqa: E402


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    home, source = tmp_path_factory.mktemp("layouts"), open_checkpoint(checkpoint_path())
    for name in layout_names():
        plan = build_plan(checkpoint_path(), "nvfp4-default", layout_name=name)
        record = load_record(record_path())
        write_checkpoint(source, plan, home / name, record=record, record_files=record_path())
    return {name: open_checkpoint(home / name) for name in layout_names()}


@pytest.mark.parametrize("name", layout_names())
def test_names_and_bytes_are_the_originals(made, name):
    source, modules = open_checkpoint(checkpoint_path()), packed_modules(made[name])
    assert len(modules) == 56
    assert as_bf16(made[name], modules).keys() == source.entries.keys()
    assert bf16_bytes(made[name], modules) == sum(entry.end - entry.begin for entry in source.entries.values())
    assert file_numerics(made[name], modules) == "w4a4"


def test_layouts_hold_the_same_model(made):
    """The inverse of a scale rounds once more: at most one float32 ulp, far below BF16."""
    one, other = (as_bf16(made[name], packed_modules(made[name])) for name in ("modelopt", "compressed-tensors"))
    for name, tensor in one.items():
        assert torch.allclose(tensor[...].float(), other[name][...].float(), rtol=2.0**-8, atol=0), name
    scales = [input_scales(made[name], packed_modules(made[name])) for name in ("modelopt", "compressed-tensors")]
    assert scales[0].keys() == scales[1].keys()
    for module, scale in scales[0].items():
        assert scales[1][module] == pytest.approx(scale, rel=1e-6)


def test_an_unknown_layout_is_refused(made, tmp_path: Path):
    checkpoint = made["modelopt"]
    config = {**checkpoint.config, "quantization_config": {"quant_method": "gptq"}}
    with pytest.raises(InvalidRequest, match="quantization_config of 'gptq'"):
        packed_modules(type(checkpoint)(checkpoint.path, config, checkpoint.entries, None, ()))
