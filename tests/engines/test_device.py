"""The device probe: never raises, and says in one line what was found and what is needed."""

import builtins
import subprocess
import sys

import pytest

from pytest_q3omni.engines import device
from pytest_q3omni.engines.device import Devices, build_of, check_device, missing, probe
from pytest_q3omni.errors import InvalidRequest, MissingDependency

pytestmark = pytest.mark.tiny


@pytest.fixture(autouse=True)
def fresh():
    probe.cache_clear()
    yield
    probe.cache_clear()


def test_it_answers_on_this_machine():
    found = probe()
    assert bool(found.cuda) != bool(found.why_none)
    assert probe() is found, "asked once per process"


def test_without_torch_it_names_the_extra(monkeypatch):
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    monkeypatch.setattr(device, "driver_version", lambda: "")
    assert missing("gpu", probe()) == (
        "needs a CUDA device of compute capability 8.0 or higher; torch is not installed: "
        "pip install 'pytest-q3omni[quantize]', no NVIDIA driver; `q3omni doctor` says more"
    )


def test_a_reason_names_device_build_and_driver():
    found = Devices((("NVIDIA H100", (9, 0)),), build=build_of("2.11.0", "13.0"), driver="580.95")
    assert missing("thor", found) == (
        "needs an NVIDIA Thor (compute capability 11.0); found NVIDIA H100 (9.0), torch 2.11.0, CUDA 13.0 build, "
        "NVIDIA driver 580.95; `q3omni doctor` says more"
    )


def test_a_torch_that_cannot_be_imported_is_an_answer(monkeypatch):
    real = builtins.__import__

    def broken(name, *arguments):
        if name == "torch":
            raise OSError("libcudart.so.13: cannot open shared object file")
        return real(name, *arguments)

    monkeypatch.setattr(device, "find_spec", lambda name: object())
    monkeypatch.setattr(builtins, "__import__", broken)
    assert probe().why_none == "torch cannot be imported: libcudart.so.13: cannot open shared object file"


def test_no_device_says_which_torch_looked(monkeypatch):
    torch = pytest.importorskip("torch", reason="needs torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert probe().why_none.startswith(f"no CUDA device found (torch {torch.__version__}, ")


def test_every_device_is_named(monkeypatch):
    torch = pytest.importorskip("torch", reason="needs torch")
    names, capabilities = ["Tesla T4", "NVIDIA H100"], [(7, 5), (9, 0)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", names.__getitem__)
    monkeypatch.setattr(torch.cuda, "get_device_capability", capabilities.__getitem__)
    assert str(probe()) == "found Tesla T4 (7.5), NVIDIA H100 (9.0)"
    assert missing("gpu", probe()) == ""


@pytest.mark.parametrize(
    ("capability", "gpu", "thor"),
    [
        ((7, 5), True, True),
        ((8, 0), False, True),
        ((9, 0), False, True),
        ((10, 0), False, True),
        ((11, 0), False, False),
        ((12, 0), False, True),
    ],
)
def test_what_each_marker_needs(capability, gpu, thor):
    found = Devices((("pretended", capability),))
    assert (bool(missing("gpu", found)), bool(missing("thor", found))) == (gpu, thor)


@pytest.mark.parametrize(
    "name", ["", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:01", "cuda:0 ", "cpu:0", "mps", "cuda:0\n"]
)
def test_a_name_that_is_no_device_is_refused(name, monkeypatch):
    monkeypatch.setattr(device, "probe", lambda: pytest.fail("asked"))
    with pytest.raises(InvalidRequest, match="expected cpu, cuda or cuda:N") as caught:
        check_device(name)
    assert repr(name) in caught.value.found


def test_the_cpu_is_there_and_costs_no_torch():
    code = (
        "import sys; from pytest_q3omni.engines.device import check_device; check_device('cpu'); "
        "print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.fixture
def two(monkeypatch):
    pytest.importorskip("torch", reason="needs torch")
    monkeypatch.setattr(device, "probe", lambda: Devices((("Tesla T4", (7, 5)), ("NVIDIA H100", (9, 0)))))


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:0", "cuda:1"])
def test_devices_that_are_here_pass(two, name):
    check_device(name)


def test_a_number_beyond_the_last_names_what_is_there(two):
    with pytest.raises(InvalidRequest) as caught:
        check_device("cuda:2")
    assert str(caught.value) == (
        "--device cuda:2: no such GPU: found Tesla T4 (7.5), NVIDIA H100 (9.0); "
        "expected a CUDA GPU that torch can use. Fix: --device cpu, or a smaller number"
    )


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_without_a_gpu_the_device_is_refused_and_says_what_was_found(monkeypatch, name):
    torch = pytest.importorskip("torch", reason="needs torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidRequest) as caught:
        check_device(name)
    assert str(caught.value).startswith(
        f"--device {name}: no such GPU: no CUDA device found (torch {torch.__version__}"
    )
    assert caught.value.fix == "--device cpu"


def test_a_gpu_without_torch_names_the_extra(monkeypatch):
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"--device cuda: torch is not installed\. Fix: pip install"):
        check_device("cuda")
