"""The table of docs/benchmarks.md, from pytest-benchmark's JSON: `python benchmarks/table.py FILE.json`.

Every benchmark with a `figure` in its `extra_info` (`pytest_q3omni/conformance/_speed.py` puts it there) is a row.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_HEAD = ("what", "here", "baseline", "baseline's", "ratio")


def main(file: str) -> str:
    """The device, the table, the versions.

    Raises:
        SystemExit: the file holds no figure; says what makes one.
    """
    run = json.loads(Path(file).read_text(encoding="utf-8"))
    benchmarks = [each for each in run["benchmarks"] if "figure" in each["extra_info"]]
    if not benchmarks:
        raise SystemExit(
            f"{file}: no figure in it; make one with: pytest -m tiny --benchmark-only --benchmark-json=FILE"
        )
    extras = [each["extra_info"] for each in benchmarks]
    cpu = run["machine_info"]["cpu"].get("brand_raw", "unknown CPU")
    versions = {name: version for extra in extras for name, version in extra["versions"].items()}
    lines = [
        f"{cpu} ({'; '.join(_unique(extra['device'] for extra in extras))}), {run['datetime'][:10]}. Medians.",
        "",
        *_markdown([_HEAD, *map(_row, sorted(benchmarks, key=lambda each: (each["group"], each["name"])))]),
        "",
        f"Versions: {', '.join(f'{name} {version}' for name, version in versions.items())}.",
    ]
    return "\n".join(lines)


def _row(benchmark: Mapping[str, Any]) -> tuple[str, ...]:
    extra = benchmark["extra_info"]
    what = ", ".join(filter(None, (benchmark["group"], benchmark["param"])))
    figure, unit = extra["figure"], extra["unit"]
    if "baseline" not in extra:
        return what, _figure(figure, unit), "", "", ""
    reference, ratio = extra["baseline_figure"], f"{extra['ratio']:.2f}x"
    if unit == "ms":  # what start-up costs is a difference: pytest's own time is nobody's fault here
        ratio += f" ({figure - reference:+.1f} ms)"
    return what, _figure(figure, unit), extra["baseline"], _figure(reference, unit), ratio


def _figure(value: float, unit: str) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:#.3g} {unit}"


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _markdown(rows: list[tuple[str, ...]]) -> list[str]:
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return [head, "|---|---:|---|---:|---:|", *body]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python benchmarks/table.py FILE.json")
    print(main(sys.argv[1]))  # noqa: T201 (it prints)
