"""docs/reference is what the code says now."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.tiny

DOCS = Path(__file__).parents[2] / "docs"


def test_the_reference_is_up_to_date(tmp_path: Path) -> None:
    subprocess.run([sys.executable, DOCS / "generate.py", tmp_path], check=True)
    committed = {page.name: page.read_text(encoding="utf-8") for page in (DOCS / "reference").iterdir()}
    made = {page.name: page.read_text(encoding="utf-8") for page in tmp_path.iterdir()}
    stale = sorted(name for name in committed.keys() | made.keys() if committed.get(name) != made.get(name))
    assert not stale, f"docs/reference: {', '.join(stale)} differ from the code. Fix: run `python docs/generate.py`"


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("cli.md", "`--require VALUE`"),
        ("api.md", "- **UnknownName**: no such recipe or layout."),
        ("api.md", "- `group`: fused group whose members share one global scale"),
        ("assertions.md", "### assert_verified"),
        ("pytest.md", "| `--q3omni-original DIR` | `q3omni_original` |"),
        ("pytest.md", "| `quantized_model` | `ModelHandle` |"),
        ("checks.md", "## shared-scales"),
        ("errors.md", "### SamplesFailed"),
    ],
)
def test_the_reference_says_what_the_code_says(page: str, told: str) -> None:
    """Spot checks of the ways in: declarations, signatures, docstrings, source."""
    assert told in (DOCS / "reference" / page).read_text(encoding="utf-8")
