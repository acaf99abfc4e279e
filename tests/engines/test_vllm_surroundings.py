"""Asking an interpreter for its torch and vLLM: whatever it does, there is an answer."""

import json
import os
import stat
import sys

import pytest

from pytest_q3omni.engines import vllm_surroundings
from pytest_q3omni.engines.vllm_surroundings import ExpertShapes, ask_torch, ask_vllm

pytestmark = [pytest.mark.tiny, pytest.mark.skipif(os.name == "nt", reason="needs a shell")]

SHAPES = ExpertShapes(experts=128, experts_per_token=8, width=768, hidden=2048)
TORCH = {
    "version": "2.11.0",
    "cuda": "13.0",
    "architectures": ["sm_90", "sm_100", "gibberish", "compute_120"],
    "trouble": "",
    "devices": [{"name": "NVIDIA H100", "capability": [9, 0], "total": 80, "free": None, "unified": False,
                 "trouble": "no kernel image is available"}],
}  # fmt: skip
VLLM = {
    "version": "0.26.0",
    "platform": "NVIDIA H100",
    "flashinfer": "",
    "kernels": {"answer": {"w4a4": {"linear": {"answer": "Marlin"}, "experts": {"error": "none\nfits"}}}},
    "tuning": {"answer": {"name": "E=128,N=768.json", "found": ""}},
}


@pytest.fixture
def interpreter(tmp_path):
    def install(program: str):
        python = tmp_path / "python"
        python.write_text(
            f"#!{sys.executable}\nimport sys, time, os, signal\n_, inside, what, asked, answer = sys.argv\n{program}\n"
        )
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
        return python

    return install


def answering(content: object) -> str:
    return f"open(answer, 'w').write({json.dumps(content)!r})"


def test_a_sound_answer(interpreter):
    python = interpreter(answering({"torch": {"answer": TORCH}, "folder": "", "vllm": {"answer": VLLM}}))
    torch, vllm = ask_vllm(python, SHAPES)
    assert [str(code) for code in torch.architectures] == ["sm_90", "sm_100", "compute_120"]
    assert (torch.devices[0].capability, torch.devices[0].free) == ((9, 0), None)
    assert torch.broken == {0: "no kernel image is available"}
    assert vllm.kernels == {"w4a4 linear": "Marlin"}
    assert vllm.refused == {"w4a4 experts": "none fits"}
    assert vllm.tuning == ("E=128,N=768.json", "")


@pytest.mark.parametrize(
    ("program", "trouble"),
    [
        ("print('Illegal instruction'); sys.exit(3)", "ended with code 3. Its last lines: Illegal instruction"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "signal 11"),
        ("time.sleep(60)", "no answer within 0.5 s"),
        ("pass", "ended with code 0"),
        ("open(answer, 'w').write('{')", "ended with code 0"),
        (answering([1]), "none"),
        (answering({}), "none"),
        (answering({"torch": {"answer": {**TORCH, "devices": [{}]}}, "vllm": {"answer": []}, "folder": ""}), "none"),
        (answering({"torch": {"error": "x" * 10_000}, "vllm": {"error": "x"}, "folder": ""}), "x ..."),
    ],
)
def test_a_broken_interpreter_is_an_answer(interpreter, program, trouble):
    torch, vllm = ask_vllm(interpreter(program), SHAPES, seconds=0.5 if "sleep" in program else 60)
    assert trouble in torch.trouble
    assert torch.version == vllm.version == ""
    assert vllm.trouble
    assert len(torch.trouble) < 3000


def test_code_is_read_from_the_files_even_where_vllm_cannot_be_imported(interpreter, tmp_path, monkeypatch):
    from pytest_q3omni.engines.cuda_code import Code

    asked = []
    monkeypatch.setattr(
        vllm_surroundings, "read_units", lambda file: asked.append(file.name) or [frozenset([Code("sm", (9, 0))])]
    )
    folder = tmp_path / "vllm"
    folder.mkdir()
    for name in ("_C.abi3.so", "_moe_C.abi3.so", "cumem_allocator.abi3.so", "_C.py"):
        (folder / name).touch()
    answer = {"torch": {"error": "gone"}, "folder": str(folder), "vllm": {"error": "ImportError: undefined symbol"}}
    _, vllm = ask_vllm(interpreter(answering(answer)), SHAPES)
    assert asked == ["_C.abi3.so", "_moe_C.abi3.so"]
    assert [str(code) for code in vllm.codes] == ["sm_90"]
    assert vllm.trouble == "ImportError: undefined symbol"


def test_a_library_that_is_none_is_named(interpreter, tmp_path):
    (tmp_path / "_C.abi3.so").write_text("not a library")
    answer = {"torch": {"answer": TORCH}, "folder": str(tmp_path), "vllm": {"answer": VLLM}}
    _, vllm = ask_vllm(interpreter(answering(answer)), SHAPES)
    assert vllm.units == ()
    assert vllm.unread == ("_C.abi3.so (not a 64-bit little-endian ELF file)",)


def test_this_interpreters_own_torch():
    torch = pytest.importorskip("torch", reason="needs torch")
    found = ask_torch()
    assert found.version == torch.__version__
    assert [str(code) for code in found.architectures] == (torch._C._cuda_getArchFlags() or "").split()
