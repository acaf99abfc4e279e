"""The pages work as typed: every block runs in order, and prints what is shown."""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from markdown_page import DemoRun, PageError, Session, blocks

from pytest_q3omni import api
from pytest_q3omni.omni.tiny import checkpoint_path, record_path

pytestmark = pytest.mark.tiny

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"  # written from the code: test_docs_reference.py
PAGES = {
    str(page.relative_to(ROOT)): page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if REFERENCE not in page.parents
}
NOT_RUN = {
    "README.md": ["sets up an environment, which downloads the dependencies", "needs your model"],
    "docs/benchmarks.md": [
        "figures differ between machines and minutes; tests/plugin/test_plugin_benchmarks.py runs benchmarks"
    ]
    * 5,
    "docs/how-to/calibrate-with-my-own-data.md": ["needs your data and the memory for your model"],
    "docs/how-to/ci-judges-my-checkpoint.md": ["needs GitHub's runners and your checkpoint"],
    "docs/how-to/i-have-a-thor.md": [
        "downloads the dependencies, on a Thor",
        "what it prints depends on the machine; tests/cli/test_cli_doctor.py runs it",
        "needs a Thor and a checkpoint",
        "needs a Thor, or half a minute for each pair elsewhere",
    ],
    "docs/how-to/measure-serving.md": ["needs a GPU and vLLM", "needs a GPU, vLLM and a checkpoint"],
    "docs/how-to/judge-a-model-on-the-hub.md": [
        "needs a hub; tests/cli/test_cli_remote.py types it against a server of its own"
    ]
    * 2,
    "docs/how-to/let-vllm-judge-the-loading.md": [
        "downloads vLLM (3.5 GB)",
        "needs an environment with vLLM; tests/verify/test_loads_in_vllm.py asks it",
    ],
    "docs/how-to/only-a-laptop.md": ["half a minute; tests/plugin/test_conformance_suite.py runs it"],
    "docs/tutorial.md": [
        "downloads the dependencies, torch among them (some GB)",
        "half a minute; the demo above does the same",
        "needs the 30B model",
    ],
}
"""What no test types, by page: it needs hardware, weights or a network that is not here. Changing it is a decision."""

_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
_EXTRA = "<!-- needs the quantize extra -->"
_BESIDE = "<!-- starts beside q3omni-demo -->"
_REASON = "needs the quantize extra: pip install 'pytest-q3omni[quantize]'"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `q3omni demo` leaves, made from the bundled record, without torch."""
    home = tmp_path_factory.mktemp("docs") / "q3omni-demo"
    shutil.copytree(checkpoint_path(), home / "original")
    api.quantize(home / "original", home / "quantized", recipe="nvfp4-default", record=record_path())
    return home


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    return DemoRun(tmp_path_factory.mktemp("run") / "q3omni-demo")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_works_as_typed(
    name: str, demo: Path, demo_run: DemoRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("bash") is None:
        pytest.skip("the pages are typed into bash, which is not here")
    text = PAGES[name].read_text(encoding="utf-8")
    marks = text.splitlines()
    if _EXTRA in marks and not all(map(find_spec, ("torch", "transformers", "modelopt"))):  # importing takes seconds
        pytest.skip(_REASON)
    if _BESIDE in marks:
        shutil.copytree(demo, tmp_path / "q3omni-demo")
    monkeypatch.chdir(tmp_path)
    runnable = [block for block in blocks(text) if not block.not_run and block.language in ("console", "python")]
    try:
        done = Session(name, tmp_path, demo_run).run(text)
    except PageError as error:
        pytest.fail(str(error), pytrace=False)
    assert done >= len(runnable)


def test_what_is_not_run_is_known() -> None:
    found = {name: [block.not_run for block in blocks(page.read_text(encoding="utf-8")) if block.not_run]
             for name, page in PAGES.items()}  # fmt: skip
    assert {name: reasons for name, reasons in found.items() if reasons} == NOT_RUN, (
        "blocks marked `<!-- not run: REASON -->` changed. Fix: run them after all, or list them in NOT_RUN here"
    )


@pytest.mark.parametrize("page", [*PAGES.values(), *sorted(REFERENCE.glob("*.md"))], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = {link["target"].partition("#")[0] for link in _LINK.finditer(page.read_text(encoding="utf-8"))}
    local = {target for target in targets if target and "://" not in target}
    missing = sorted(target for target in local if not (page.parent / target).exists())
    assert not missing, f"{page}: no such files: {missing}"
