"""What the driver says, by an `nvidia-smi` that may be missing, hang, print rubbish or print without end."""

import os
import stat
from pathlib import Path

import pytest

from pytest_q3omni.engines.machine import board_name, driver_version, look, system_memory

pytestmark = [pytest.mark.tiny, pytest.mark.skipif(os.name == "nt", reason="needs a shell")]

H100 = "0, NVIDIA H100 80GB HBM3, 9.0, 81559, 80995, 580.95.05"


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Put a program in nvidia-smi's place; `look` with a /proc that has nothing."""

    def install(script: str, seconds: float = 5.0):
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        return look(proc=tmp_path / "proc", seconds=seconds)

    return install


def printing(*lines: str, header: str = "CUDA Version: 13.0") -> str:
    told = "\n".join(lines)
    return f"case \"$1\" in --query*) cat <<'END'\n{told}\nEND\n;; *) echo '| NVIDIA-SMI {header} |';; esac"


def test_every_device_is_told(smi):
    found = smi(printing(H100, "1, NVIDIA H100 80GB HBM3, 9.0, 81559, 1000, 580.95.05"))
    assert (found.driver, found.cuda, found.trouble) == ("580.95.05", "13.0", "")
    assert [(device.index, device.capability, device.free) for device in found.devices] == [
        (0, (9, 0), 80995 << 20),
        (1, (9, 0), 1000 << 20),
    ]


def test_a_device_without_memory_of_its_own_has_unknown_sizes(smi):
    (device,) = smi(printing("0, NVIDIA GB10, 12.1, [N/A], [N/A], 580.95.05")).devices
    assert (device.capability, device.total, device.free, device.unified) == ((12, 1), None, None, True)


@pytest.mark.parametrize(
    ("script", "trouble"),
    [
        ("sleep 30", "did not answer within 0.2 s"),
        ("yes; :", "printed more than 65,536 bytes"),
        ("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", "ended with code 18: Failed to"),
        ("echo 'No devices were found'", "lists no device: No devices were found"),
        ("printf '\\033[2J\\000\\377,,,,,\\n'", "lists no device"),
        ("true", "it printed nothing"),
        (printing("0, NVIDIA H100, 9.0, 1, 2"), "lists no device"),
        (printing("zero, NVIDIA H100, 9.0, 1, 2, 3"), "lists no device"),
    ],
)
def test_what_cannot_be_used_is_trouble_and_no_device(smi, script, trouble):
    found = smi(script, 0.2 if "sleep" in script else 5.0)
    assert trouble in found.trouble
    assert found.devices == ()
    assert "\x1b" not in found.trouble


def test_numbers_that_are_none_are_left_out(smi):
    (device,) = smi(printing(f"0, {'N' * 500}, nine, {'9' * 40}, -5, ; rm", header="")).devices
    assert (len(device.name), device.capability, device.total, device.free) == (100, None, None, None)


def test_without_nvidia_smi_the_kernel_driver_is_still_seen(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "driver" / "nvidia").mkdir(parents=True)
    version = tmp_path / "driver" / "nvidia" / "version"
    version.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.00  Release Build\n")
    found = look(proc=tmp_path)
    assert (found.driver, found.devices, found.trouble) == ("580.00", (), "")
    assert driver_version(tmp_path / "elsewhere") == ("seen" if Path("/dev/dxg").exists() else "")


@pytest.mark.parametrize(
    ("model", "board"),
    [("NVIDIA Jetson AGX Thor Developer Kit\0", "NVIDIA Jetson AGX Thor Developer Kit"), ("Raspberry Pi 5\0", "")],
)
def test_a_jetson_is_known_by_its_device_tree(tmp_path, model, board):
    (tmp_path / "device-tree").mkdir()
    (tmp_path / "device-tree" / "model").write_text(model)
    assert board_name(tmp_path) == board


def test_the_systems_memory(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal:       128000000 kB\nMemAvailable:   100000000 kB\n")
    total, available = system_memory(tmp_path)
    assert total == 128_000_000 * 1024
    assert available is not None
    assert available <= 100_000_000 * 1024
