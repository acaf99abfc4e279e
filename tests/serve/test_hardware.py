"""The table of devices: found under the names that software reports, and nothing else is."""

import pytest

from pytest_q3omni.engines.device import THOR_CAPABILITY
from pytest_q3omni.serve.hardware import DEVICES, hardware_named

pytestmark = pytest.mark.tiny


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA Thor", "Jetson AGX Thor"),
        ("NVIDIA Jetson AGX Thor Developer Kit", "Jetson AGX Thor"),
        ("NVIDIA GB10", "DGX Spark"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "RTX PRO 6000 Blackwell"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "RTX PRO 6000 Blackwell"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000 Blackwell Server"),
    ],
)
def test_a_reported_name_finds_its_device(reported: str, name: str) -> None:
    found = hardware_named(reported)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize(
    "reported",
    [
        "",
        "x86_64 CPU",
        "NVIDIA H100",  # which of three?
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA H200 NVL",
        "NVIDIA GB200",
        "NVIDIA B300",
        "NVIDIA RTX PRO 5000 Blackwell",
        "NVIDIA A100-SXM4-80GB",
        "Orin (nvgpu)",
    ],
)
def test_nothing_is_guessed(reported: str) -> None:
    assert hardware_named(reported) is None


@pytest.mark.parametrize("name", DEVICES)
def test_an_entry_is_coherent(name: str) -> None:
    device = DEVICES[name]
    assert device.name == name
    assert str(round(device.bandwidth / 1e9)) in device.source or f"{device.bandwidth / 1e12:g}" in device.source
    assert f"{device.memory // 10**9} GB" in device.source
    # each format of half the width runs at twice the rate, within the rounding of a data sheet
    assert device.fp8 == pytest.approx(2 * device.bf16, rel=2e-3)
    assert device.fp4 is None or device.fp4 == pytest.approx(2 * device.fp8, rel=2e-3)
    # FP4 came with Blackwell
    assert (device.fp4 is None) == (device.capability < (10, 0))
    assert device.peak("fp4") == (device.bf16 if device.fp4 is None else device.fp4)


def test_a_thor_is_what_the_thor_marker_asks_for() -> None:
    assert DEVICES["Jetson AGX Thor"].capability == THOR_CAPABILITY
