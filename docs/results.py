"""Results of real runs: renders `results.md`, the plots beside the data, and the README's block from `results/*.json`.

    python docs/results.py             # renders again
    python docs/results.py RUN.json    # first distils a run of the serving benchmarks into results/<device>.json
    python docs/results.py --agreement ANSWERS.xml --weights real    # first adds how far answers agree

RUN.json is what `pytest --benchmark-only --benchmark-json=RUN.json` writes, both halves measured in one session.
ANSWERS.xml is what `pytest --junitxml=ANSWERS.xml` writes of `conformance/test_serving_answers.py`, in one session or
several. The plots need matplotlib (dependency group `docs`). Same data, same pages and plots, to the byte.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from results_agreement import merged, with_weights  # noqa: E402
from results_junit import agreement_rows  # noqa: E402
from results_pages import BEGIN, END, page, short, with_points  # noqa: E402
from results_plot import draw  # noqa: E402

DATA = HERE / "results"
PAGE, README = HERE / "results.md", HERE.parent / "README.md"
HALVES = ("original", "quantized")
SHARED = ("device", "capability", "engine", "versions", "weights")
OF_A_HALF = ("numerics", "weight_bytes", "kv_cache_bytes", "kernels")
OF_A_POINT = ("figure", "figures", "time_to_first_token_ms", "inter_token_ms", "roofline")
OF_BOTH = ("kind", "at_once", "prompt_tokens", "new_tokens", "unit")


def distil(run: dict[str, Any]) -> dict[str, Any]:
    """What a run says of one device: what both halves share, each half, and each point with both.

    Exits where the run is not one of both halves, on one device, with the same weights and versions.
    """
    rows = [one["extra_info"] for one in run.get("benchmarks", ()) if _of_serving(one.get("extra_info", {}))]
    if not rows:
        sys.exit("no serving benchmark of a gpu or thor item in this run: run pytest -m gpu --benchmark-only")
    for key in SHARED:
        found = {json.dumps(row.get(key), sort_keys=True) for row in rows}
        if len(found) > 1:
            sys.exit(f"the run has more than one {key}: {', '.join(sorted(found))}. Measure both halves in one session")
    points: dict[tuple[Any, ...], dict[str, Any]] = {}
    halves: dict[str, dict[str, Any]] = {}
    for row in rows:
        half, place = row["checkpoint"], tuple(row.get(key) for key in OF_BOTH)
        point = points.setdefault(place, {key: row[key] for key in OF_BOTH if key in row})
        if half in point:
            sys.exit(f"{_named(point)} is measured twice for the {half}: pass one run")
        point[half] = {key: row[key] for key in OF_A_POINT if row.get(key)}
        halves[half] = {key: row[key] for key in OF_A_HALF if key in row}
    for point in points.values():
        missing = [half for half in HALVES if half not in point]
        if missing:
            sys.exit(f"{_named(point)}: the {missing[0]} is missing. Measure both halves in one session")
    if not any(point["kind"] == "decode" for point in points.values()):
        sys.exit("no decode point in this run: run the serving benchmarks without -k or --deselect")
    order = ("load", "first token", "decode", "prefill")
    ordered = sorted(
        points.values(), key=lambda p: (order.index(p["kind"]), p.get("at_once", 0), p.get("prompt_tokens", 0))
    )
    shared = {key: rows[0].get(key) for key in SHARED}
    return {"schema": 1, "date": run["datetime"][:10], **shared, **halves, "points": ordered}


def _of_serving(row: dict[str, Any]) -> bool:
    return row.get("checkpoint") in HALVES and "kernels" in row and row.get("marker") != "tiny"


def _named(point: dict[str, Any]) -> str:
    return " ".join(str(point[key]) for key in ("kind", "at_once", "prompt_tokens") if key in point)


def file_of(device: str) -> Path:
    """Where a device's results lie."""
    return DATA / f"{re.sub(r'[^a-z0-9]+', '-', device.lower()).strip('-')}.json"


def record(run: dict[str, Any] | None, rows: list[dict[str, Any]]) -> None:
    """Write what was distilled, and rows of agreement, into the devices' files; what else they have stays."""
    if run is not None:
        before = _recorded(run["device"])
        _write({**run, **{key: before[key] for key in ("agreement",) if key in before}})
    for device in dict.fromkeys(row["device"] for row in rows):
        before = _recorded(device)
        later = [row for row in rows if row["device"] == device]
        _write({**before, "agreement": merged(before.get("agreement", ()), later)})


def _recorded(device: str) -> dict[str, Any]:
    file = file_of(device)
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return {"schema": 1, "device": device, **found}


def _write(result: dict[str, Any]) -> None:
    DATA.mkdir(exist_ok=True)
    file_of(result["device"]).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def render() -> None:
    """Write the page, the plots and the README's block anew."""
    found = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(DATA.glob("*.json"))}
    for name, result in with_points(found).items():
        draw(result, DATA / f"{name}.svg")
    PAGE.write_text(page(found), encoding="utf-8")
    README.write_text(with_block(README.read_text(encoding="utf-8"), short(found)), encoding="utf-8")


def with_block(text: str, block: str) -> str:
    """The README with what stands between its two marks replaced."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"README.md lacks the marks {BEGIN} and {END}: put them where the table belongs")
    return f"{before}{begin}\n{block}{end}{after}"


def main(arguments: list[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Record results of real runs, and render their pages and plots.")
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN.json", help="of the serving benchmarks")
    parser.add_argument(
        "--agreement", action="append", default=[], type=Path, metavar="ANSWERS.xml",
        help="of test_serving_answers.py; may be repeated, and of the same figures the last counts",
    )  # fmt: skip
    parser.add_argument("--weights", choices=("random", "real"), help="whose weights the answers are of")
    given = parser.parse_args(arguments)
    run = distil(json.loads(given.run.read_text(encoding="utf-8"))) if given.run else None
    rows = [row for file in given.agreement for row in agreement_rows(file)]
    try:
        rows = with_weights(rows, given.weights)
    except ValueError as error:
        parser.error(str(error))
    record(run, rows)
    render()


if __name__ == "__main__":
    main(sys.argv[1:])
