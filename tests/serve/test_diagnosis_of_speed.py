"""What is said first of an engine below the roofline, and that nothing is said above the bound."""

import pytest
from decoders import full_decoder

from pytest_q3omni.engines.serving import Kernels
from pytest_q3omni.records import Numerics
from pytest_q3omni.serve.diagnosis import BOUND, LAUNCH_SECONDS, look_first
from pytest_q3omni.serve.hardware import DEVICES
from pytest_q3omni.serve.roofline import predict_decode

pytestmark = pytest.mark.tiny

GRAPHS = "FULL_AND_PIECEWISE"
MARLIN = Kernels({"MarlinNvFp4LinearKernel": 192}, {"NVFP4 MARLIN": 48}, {}, GRAPHS)
EMULATION = Kernels({"EmulationNvFp4LinearKernel": 192}, {"NVFP4 EMULATION": 48}, {}, GRAPHS)
CUTLASS = Kernels({"FlashInferCutlassNvFp4LinearKernel": 192}, {"NVFP4 FLASHINFER_CUTLASS": 48}, {}, GRAPHS)
UNTUNED = Kernels({"UnquantizedLinearMethod": 192}, {"TRITON": 48}, {}, GRAPHS, "default")
EAGER = Kernels({"MarlinNvFp4LinearKernel": 192}, {"NVFP4 MARLIN": 48}, {}, "NONE")


def said(
    device: str, kernels: Kernels, percent: float = 10, *, numerics: Numerics = "w4a4", at_once: int = 1
) -> tuple[str, ...]:
    recipe = {"w4a4": "nvfp4-default", "w4a16": "nvfp4-mlp-weight-only", "bf16": "bf16"}[numerics]
    prediction = predict_decode(full_decoder(recipe), DEVICES[device], at_once=at_once, context=256)
    return look_first(percent, prediction, kernels, DEVICES[device], numerics=numerics, at_once=at_once)


@pytest.mark.parametrize("kernels", [MARLIN, EMULATION, CUTLASS, UNTUNED, EAGER])
@pytest.mark.parametrize("device", ["H100 SXM", "Jetson AGX Thor"])
def test_nothing_is_said_from_the_bound_on(device: str, kernels: Kernels) -> None:
    assert said(device, kernels, BOUND) == ()
    assert said(device, kernels, 99.0) == ()
    assert said(device, kernels, BOUND - 0.1)


def test_eager_mode_comes_first() -> None:
    found = said("H100 SXM", EAGER)
    assert found[0].startswith("eager mode, no CUDA graphs: one token took 16 times as long")
    assert not any("launching" in line for line in found)
    assert "eager" not in " ".join(said("H100 SXM", MARLIN))


def test_emulation_names_its_kernels_and_layers() -> None:
    found = said("H100 SXM", EMULATION)[0]
    assert found.startswith("EmulationNvFp4LinearKernel in 192 linear layers, NVFP4 EMULATION in 48 layers of experts:")
    assert "emulation computes" not in " ".join(said("H100 SXM", CUTLASS))


def test_marlin_is_a_fallback_on_thor_and_right_on_hopper() -> None:
    assert said("Jetson AGX Thor", MARLIN)[0].startswith("MarlinNvFp4LinearKernel in 192 linear layers")
    assert not any("weight-only" in line for line in said("H100 SXM", MARLIN))
    assert not any("weight-only" in line for line in said("Jetson AGX Thor", MARLIN, numerics="w4a16"))
    assert not any("weight-only" in line for line in said("Jetson AGX Thor", CUTLASS))


def test_default_settings_of_the_experts_kernel() -> None:
    assert "default settings" in said("Jetson AGX Thor", UNTUNED, numerics="bf16")[0]
    tuned = Kernels(UNTUNED.linear, UNTUNED.experts, {}, GRAPHS, "E=128,N=768,device_name=NVIDIA_Thor.json")
    assert not any("default settings" in line for line in said("Jetson AGX Thor", tuned, numerics="bf16"))


@pytest.mark.parametrize(
    ("device", "code"), [("Jetson AGX Thor", "sm_110"), ("DGX Spark", "sm_121"), ("B200", "sm_100"), ("H100 SXM", "")]
)
def test_a_new_architecture_may_be_missing_from_the_build(device: str, code: str) -> None:
    told = [line for line in said(device, CUTLASS) if "without code for" in line]
    assert [code in line for line in told] == ([True] if code else [])


def test_a_step_shorter_than_its_launches() -> None:
    """One sequence on an H100 waits for launches; on Thor it waits for memory."""
    assert any("1 at once the step is too short" in line for line in said("H100 SXM", MARLIN))
    assert not any("too short" in line for line in said("Jetson AGX Thor", CUTLASS))
    busy = predict_decode(full_decoder("bf16"), DEVICES["H100 SXM"], at_once=32, context=256)
    assert busy.step_seconds > LAUNCH_SECONDS
    assert not any("too short" in line for line in said("H100 SXM", MARLIN, numerics="bf16", at_once=32))


def test_something_is_said_where_nothing_explains_it() -> None:
    found = said("H100 SXM", Kernels({"UnquantizedLinearMethod": 192}, {"TRITON": 48}, {}, GRAPHS, "E=128,N=768.json"),
                 numerics="bf16", at_once=64)  # fmt: skip
    assert len(found) == 1
    assert "nothing that the engine says" in found[0]


@pytest.mark.parametrize("kernels", [MARLIN, EMULATION, UNTUNED, EAGER])
def test_every_line_says_what_to_do(kernels: Kernels) -> None:
    assert all("Fix: " in line for line in said("Jetson AGX Thor", kernels))
