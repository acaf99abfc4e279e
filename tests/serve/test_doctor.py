"""The judgement of made-up machines: what passes, what fails and why, and what is only not here."""

from dataclasses import replace

import pytest

from pytest_q3omni.engines.cuda_code import parse_code
from pytest_q3omni.engines.device import Devices, missing
from pytest_q3omni.engines.machine import Device, Machine
from pytest_q3omni.engines.vllm_surroundings import ExpertShapes, TorchBuild, VLLMBuild
from pytest_q3omni.serve.doctor import judge_surroundings
from pytest_q3omni.serve.examination import Row, Surroundings
from pytest_q3omni.serve.fit import Needs

pytestmark = pytest.mark.tiny

GIB = 1 << 30
H100 = Device(0, "NVIDIA H100", (9, 0), 80 * GIB, 79 * GIB, False)
THOR = Device(0, "NVIDIA Thor", (11, 0), 122 * GIB, 110 * GIB, True)
SPARK = Device(0, "NVIDIA GB10", (12, 1), 119 * GIB, 100 * GIB, True)
T4 = Device(0, "Tesla T4", (7, 5), 15 * GIB, 15 * GIB, False)
SMALL = Device(0, "NVIDIA GeForce RTX 4060", (8, 9), 8 * GIB, 7 * GIB, False)
NEEDS = Needs(
    "nvfp4-default", 19 * GIB, 98_304, 65_536, 8, 4096, {"bf16": 59 * GIB, "smaller": 12 * GIB}
)  # fmt: skip
SHAPES = ExpertShapes(128, 8, 768, 2048)
WHEEL = ("sm_80", "sm_90", "sm_90a", "sm_100f", "sm_120", "sm_120f", "compute_80")
"""What vLLM 0.26.0's wheel holds, shortened."""
MARLIN = {f"{kind} {layer}": "MARLIN" for kind in ("w4a4", "w4a16") for layer in ("linear", "experts")}
TRITON = {**MARLIN, "bf16 experts": "TRITON"}
FILE = "E=128,N=768,device_name=NVIDIA_H100.json"


def codes(*names: str):
    return tuple(parse_code(name) for name in names)


def machine(*devices: Device, torch=("sm_90", "sm_100", "sm_110", "sm_120"), vllm=WHEEL, **more) -> Surroundings:
    """A machine on which all is well, but for what `more` says."""
    built = TorchBuild("python", "2.11.0", "13.0", codes(*torch), devices)
    engine = VLLMBuild("python", "0.26.0", "cuda", "0.6", (frozenset(codes(*vllm)),), kernels=TRITON, tuning=(FILE, ""))
    found = Surroundings(
        Machine("580.95", "13.0", devices), devices, built, NEEDS, SHAPES, "w4a4", vllm=engine, vllm_torch=built
    )
    return replace(found, **more)


LAPTOP = Surroundings(
    Machine(), (), TorchBuild("python", trouble="ModuleNotFoundError: No module named 'torch'"), NEEDS, SHAPES, "w4a4",
    no_vllm="no vLLM: nothing here has one",
)  # fmt: skip


def rows(found: Surroundings) -> dict[str, Row]:
    return {row.name: row for row in judge_surroundings(found)}


def failed(found: Surroundings) -> set[str]:
    return {name for name, row in rows(found).items() if row.state == "fail"}


def test_an_h100_where_all_is_well():
    told = rows(machine(H100))
    assert failed(machine(H100)) == set()
    assert "never reads an input scale" in told["kernels"].meaning
    assert "1 x 65,536" in told["memory"].meaning
    assert told["gpu tests"].state == "pass"
    assert told["thor tests"].meaning == missing(
        "thor", Devices((("NVIDIA H100", (9, 0)),), "", "torch 2.11.0, CUDA 13.0 build", "580.95")
    ).removesuffix("; `q3omni doctor` says more")


def test_a_laptop_with_nothing_fails_nothing():
    told = rows(LAPTOP)
    assert {row.state for row in told.values()} == {"not checked", "pass"}
    assert {name for name, row in told.items() if row.state == "pass"} == {"engine limits"}
    assert told["torch"].found == "not installed"
    assert told["gpu tests"].meaning.startswith("needs a CUDA device")


def test_the_wheel_has_no_code_for_a_thor():
    told = rows(machine(THOR))
    assert failed(machine(THOR)) == {"vllm", "kernels"}
    assert "FP4 kernels are not among them: built without sm_110" in told["vllm"].meaning
    assert "TORCH_CUDA_ARCH_LIST=11.0" in told["vllm"].fix
    assert "FP4 units stay idle" in told["kernels"].meaning


def test_a_thor_with_a_build_for_it():
    chosen = {**TRITON, "w4a4 linear": "CutlassNvFp4LinearKernel", "w4a4 experts": "VLLM_CUTLASS"}
    found = machine(THOR, vllm=(*WHEEL, "sm_110", "sm_110f"))
    assert found.vllm is not None
    found = replace(found, vllm=replace(found.vllm, kernels=chosen))
    assert failed(found) == set()
    told = rows(found)
    assert "shared with the CPU" in told["device 0"].meaning
    assert told["memory"].fix == "start vLLM with --gpu-memory-utilization 0.90"
    assert told["thor tests"].state == "pass"


def test_a_spark_runs_code_of_its_family_and_of_no_other():
    assert "vllm" not in failed(machine(SPARK))
    assert "vllm" in failed(machine(SPARK, vllm=("sm_120", "sm_100f")))
    assert rows(machine(SPARK, vllm=("sm_90",)))["vllm"].meaning == "no kernel of it runs on sm_121"


@pytest.mark.parametrize(
    ("found", "row", "says"),
    [
        (machine(THOR, torch=("sm_90", "sm_100")), "torch", "no code for sm_110"),
        (machine(H100, machine=Machine(trouble="nvidia-smi did not answer within 10 s")), "driver", "not usable"),
        (machine(replace(H100, free=20 * GIB)), "memory", "20.0 GiB are free and 26.0 GiB needed"),
        (machine(SMALL), "memory", "the device has 8.0 GiB"),
        (machine(H100, needs=replace(NEEDS, context=65_537)), "memory", "knows 65,536 positions, and 65,537 tokens"),
        (replace(LAPTOP, needs=replace(NEEDS, context=65_537)), "memory", "knows 65,536 positions, and 65,537 tokens"),
        (machine(T4), "device 0", "older than 8.0"),
        (machine(H100, traps=(("vLLM 0.26 and lm_head: refused", "pack again"),)), "engine limits", "lm_head"),
        (replace(LAPTOP, vllm_named=True), "vllm", "nothing here has one"),
        (replace(LAPTOP, torch=TorchBuild("python", trouble="OSError: libcudart")), "torch", "installed and broken"),
    ],
)
def test_what_is_wrong_fails_in_its_own_row(found, row, says):
    assert row in failed(found)
    assert says in rows(found)[row].meaning


def test_torch_that_does_not_reach_the_drivers_device():
    found = machine(H100)
    cpu = TorchBuild("python", "2.11.0+cpu", trouble="a build without CUDA")
    assert failed(replace(found, torch=cpu, vllm_torch=cpu)) >= {"torch", "vllm"}
    broken = replace(found, torch=replace(found.torch, broken={0: "no kernel image is available"}))
    assert failed(broken) == {"device 0"}


def test_ptx_alone_is_not_what_an_engine_was_built_for():
    row = rows(machine(SMALL, vllm=("sm_75", "compute_80")))["vllm"]
    assert (row.state, "PTX" in row.meaning) == ("fail", True)


def test_a_vllm_that_cannot_be_used_or_read():
    found = machine(H100)
    assert found.vllm is not None
    broken = replace(found, vllm=replace(found.vllm, trouble="ImportError: undefined symbol"))
    assert "undefined symbol" in rows(broken)["vllm"].meaning
    assert failed(broken) == {"vllm"}
    on_thor = replace(machine(THOR), vllm=broken.vllm)
    assert "undefined symbol. And " in rows(on_thor)["vllm"].meaning
    assert "TORCH_CUDA_ARCH_LIST=11.0" in rows(on_thor)["vllm"].fix
    cpu = replace(found, vllm=replace(found.vllm, units=(), kernels={}))
    assert failed(cpu) == {"vllm"}
    unknown = rows(replace(found, vllm=replace(found.vllm, units=(), unread=("_C.so (odd)",))))["vllm"]
    assert (unknown.state, "_C.so (odd)" in unknown.meaning) == ("not checked", True)


def test_kernels_are_expected_where_vllm_cannot_be_asked():
    row = rows(replace(machine(THOR), vllm=None))["kernels"]
    assert (row.state, "VLLM_CUTLASS" in row.found) == ("not checked", True)
    assert "from reading vLLM 0.26 to 0.32" in row.meaning


def test_kernels_that_are_refused_or_emulated_fail():
    found = machine(H100)
    assert found.vllm is not None
    refused = replace(found.vllm, kernels={}, refused={"w4a4 experts": "no backend fits"})
    assert "no backend fits" in rows(replace(found, vllm=refused))["kernels"].meaning
    emulated = replace(found.vllm, kernels={**TRITON, "w4a4 experts": "EMULATION"})
    assert "emulates" in rows(replace(found, vllm=emulated))["kernels"].meaning
    other = replace(found.vllm, refused={"bf16 experts": "no matter"})
    assert failed(replace(found, vllm=other)) == set()


def test_a_tuning_file_matters_to_triton_alone():
    packed, plain = machine(H100), machine(H100, numerics="bf16")
    assert rows(packed)["expert tuning"].state == "pass"
    assert "read no such file" in rows(packed)["expert tuning"].meaning
    assert "34 instead of 61" in rows(plain)["expert tuning"].meaning
    assert failed(plain) == {"expert tuning"}
    assert plain.vllm is not None
    there = replace(plain, vllm=replace(plain.vllm, tuning=(FILE, f"/configs/{FILE}")))
    other = replace(plain, vllm=replace(plain.vllm, kernels={"bf16 experts": "FLASHINFER_CUTLASS"}))
    assert failed(there) == failed(other) == set()


def test_of_two_cards_the_first_that_is_new_enough_is_judged():
    told = rows(machine(T4, replace(H100, index=1)))
    assert (told["device 0"].state, told["device 1"].state) == ("not checked", "pass")
    assert told["device 1"].fix == "CUDA_VISIBLE_DEVICES=1"
    assert told["memory"].state == "pass"


def test_what_would_fit_instead():
    card = Device(0, "RTX", (8, 9), 24 * GIB, 23 * GIB, False)
    row = rows(machine(card))["memory"]
    assert row.fix == "ask for less: 1 x 10,922 or 2 x 4,096 tokens fit; use recipe smaller"
    assert rows(machine(SMALL))["memory"].fix == "no recipe fits with this cache"


def test_the_cache_is_counted_by_the_token():
    assert NEEDS.cache_bytes == 8 * 4096 * 98_304
    assert NEEDS.tokens_in(NEEDS.total) == 8 * 4096
    assert NEEDS.tokens_in(0) == 0


def test_the_longest_context_that_the_model_knows_is_judged_by_memory_alone():
    at_limit = replace(NEEDS, context=65_536, at_once=1)
    assert rows(machine(H100, needs=at_limit))["memory"].state == "pass"
    assert rows(machine(H100, needs=replace(at_limit, context=70_000, longest=0)))["memory"].state == "pass"


def test_a_device_newer_than_the_table_of_kernels_is_not_told_to_be_newer():
    newer = replace(machine(Device(0, "a GPU of tomorrow", (14, 0), 80 * GIB, 79 * GIB, False)), vllm=None)
    told = rows(newer)["kernels"]
    assert told.state == "not checked"
    assert "14.0" in told.found
    assert "newer GPU" not in told.fix
    older = replace(machine(replace(T4, capability=(7, 0))), vllm=None)
    assert rows(older)["kernels"].state == "fail"


def test_without_a_vllm_it_says_what_to_install():
    assert "vLLM 0.26 or newer" in rows(LAPTOP)["vllm"].fix
