"""Append finished runs to `results/runs.jsonl`; draw `docs/results.md`, and a picture a data set, from all rows.

The page also has what the other benchmarks of this folder found. It is never edited by hand: its text stands in
`results/introduction.md`, its figures in the rows, and a test draws it.

python -m benchmarks.record RUN_FOLDER... --command 'kdc run recipes/…'     record runs, then draw
python -m benchmarks.record                                                  draw only
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.bench_table import draw_bench
from benchmarks.common import RESULTS, append, origin, read_rows
from benchmarks.deploy_table import DEPLOY_ROWS, draw_deploy
from benchmarks.frontier import pictures
from benchmarks.kernel_table import KERNEL_ROWS, draw_kernels
from benchmarks.peer_table import PEER_ROWS, draw_peers
from benchmarks.serving_table import SERVING_ROWS, SOAK_ROWS, draw_serving
from benchmarks.start_up import START_UP_ROWS
from benchmarks.start_up_table import draw_start_up
from benchmarks.tables import scale_of, spread, table
from benchmarks.web_table import WEB_ROWS, draw_web
from compress.recipe import digest
from compress.tasks.measures import measure_named

ROOT = Path(__file__).resolve().parents[1]
RUNS = RESULTS / "runs.jsonl"
PAGE = ROOT / "docs" / "results.md"
INTRODUCTION = RESULTS / "introduction.md"
BENCH_ROWS = tuple(RESULTS / f"{name}.jsonl" for name in ("harness", "repeatability", "compliance"))
DATA_OF_RECIPES = "../../shared/data"
"""`data.root` in recipes/."""
MODELS = ("baseline", "teacher", "control", "student", "shipped")
LEARNED = ("control", "student")
"""Models whose optimizer steps are recorded."""
LEFT = ["recipe", "seed", "student", "metric"]

Row = dict[str, Any]
"""The figures of one run, as `row_of` gives them; early rows lack `settings`, `steps` and `changed`."""


def row_of(run: Path, command: str) -> Row:
    """The figures of a finished run, with device, date and commit."""
    summary = json.loads((run / "summary.json").read_bytes())
    latency = [row for row in summary["latency"] if row["scenario"] == "single-stream"]
    device, made = summary["device"], origin()
    return {
        "recipe": summary["name"],
        "digest": run.name.rsplit("-", 1)[-1],
        "settings": settings_of(summary["recipe"], teacher_weights(run)),
        "seed": summary["recipe"]["seed"],
        "student": summary["recipe"]["student"]["kind"],
        "metric": summary["metric"],
        "steps": {name: summary["models"][name].get("steps") for name in LEARNED if name in summary["models"]},
        "quality": {name: summary["models"][name]["quality"] for name in MODELS if name in summary["models"]},
        "retention": summary["retention"],
        "student_retention": _ratio(summary, "student"),
        "distillation_gain": summary["distillation_gain"],
        "speedup": summary["speedup"],
        "p50_ms": {row["artifact"]: row["p50_ms"] for row in latency},
        "p99_ms": {row["artifact"]: row["p99_ms"] for row in latency},
        "teacher_bytes": summary["models"]["teacher"]["size_bytes"],
        "bundle_bytes": summary["models"]["shipped"].get("bundle_bytes"),
        "notes": summary["notes"],
        "device": f"{device.get('processor')}, {device.get('cores')} cores",
        "date": made["date"][:10],
        "commit": made["commit"],
        "changed": made["changed"],
        "command": command,
    }


def settings_of(recipe: dict[str, Any], weights: list[str]) -> str:
    """Digest of what makes a student, without the seed: runs over several seeds have one in common.

    Where the data lie makes no difference: the folder counts as the one that recipes name.

    Args:
        recipe: as resolved. weights: hashes of the teacher's weights; runs may share one, taught in the first.
    """
    made = {name: recipe[name] for name in ("task", "data", "student", "distill", "quantize")}
    if made["data"].get("root"):
        made["data"] = made["data"] | {"root": DATA_OF_RECIPES}
    made["distill"] = made["distill"] | {"control": True}  # whether there is one changes nothing in the student
    return digest({**made, "teacher": weights})[:10]


def teacher_weights(run: Path) -> list[str]:
    """Hashes of the teacher's weights; none of a file of scores."""
    files = json.loads((run / "teacher" / "artifact.json").read_bytes())["files"]
    return sorted(entry["sha256"] for name, entry in files.items() if name.endswith(".safetensors"))


def _ratio(summary: dict[str, Any], name: str) -> float | None:
    models, metric = summary["models"], summary["metric"]
    ours, teachers = ((models.get(model, {}).get("quality") or {}).get(metric) for model in (name, "teacher"))
    return None if ours is None or teachers is None else measure_named(metric).retention(ours, teachers)


def newest(rows: list[Row]) -> list[Row]:
    """The last row of each recipe and seed, in the order of their first."""
    found: dict[tuple[str, int], Row] = {}
    for row in rows:
        found[row["recipe"], row["seed"]] = row
    return list(found.values())


def draw(rows: list[Row]) -> str:
    """The page: quality, means over the seeds of equal settings, speed and size, and where each row comes from."""
    lines = table([*LEFT, *MODELS, "shipped ÷ teacher", "gain over control"], [_quality(row) for row in rows])
    alike: dict[tuple[str, str | None], list[Row]] = {}
    for row in rows:
        alike.setdefault((row["recipe"], row.get("settings")), []).append(row)
    several = [_over_seeds(found) for found in alike.values() if len(found) > 1]
    if several:
        lines += ["", "Over seeds, mean (lowest to highest):", ""]
        lines += table(["recipe", "seeds", *LEFT[2:], *MODELS, "shipped ÷ teacher", "gain over control"], several)
    speed = ["teacher p50 ms", "shipped p50 ms", "p99 ms", "speed-up", "teacher MB", "bundle MB", "÷"]
    lines += ["", *table([*LEFT[:2], *speed], [_speed(row) for row in rows])]
    lines += ["", "Other metrics of the test split (teacher → shipped), and where each row comes from:", ""]
    lines += [_origin(row) for row in rows]
    return "\n".join(lines) + "\n"


def show(pictures: list[str]) -> str:
    """The pictures' place on the page."""
    if not pictures:
        return ""
    lines = [
        "",
        "Share of the teacher's metric that the shipped student keeps (test split, mean over seeds) against its p50",
        "",
    ]
    lines += [f"![retention against latency, {Path(name).stem}]({name})" for name in pictures]
    return "\n".join(lines) + "\n"


def drawn() -> dict[str, str]:
    """File name -> content of the page and its pictures, from the rows of all results."""
    rows = newest(read_rows(RUNS))
    shown = pictures(rows)
    page = INTRODUCTION.read_text(encoding="utf-8") + "\n" + draw(rows) + show(list(shown))
    page += draw_peers(read_rows(PEER_ROWS)) + draw_deploy(read_rows(DEPLOY_ROWS))
    page += draw_kernels(read_rows(KERNEL_ROWS)) + draw_bench(*map(read_rows, BENCH_ROWS))
    page += draw_start_up(read_rows(START_UP_ROWS)) + draw_serving(read_rows(SERVING_ROWS), read_rows(SOAK_ROWS))
    page += draw_web(read_rows(WEB_ROWS))
    return {PAGE.name: page} | shown


def _metric(row: Row, model: str) -> float | None:
    value: float | None = (row["quality"].get(model) or {}).get(row["metric"])
    return value


def _quality(row: Row) -> list[str]:
    gain = row["distillation_gain"]
    return [
        row["recipe"],
        str(row["seed"]),
        row["student"],
        row["metric"],
        *(_shown(_metric(row, model), row["metric"]) for model in MODELS),
        _shown(row["retention"]) + "%",
        "–" if gain is None else f"{scale_of(row['metric']) * gain:+.1f}",
    ]


def _over_seeds(rows: list[Row]) -> list[str]:
    return [
        rows[0]["recipe"],
        ", ".join(str(row["seed"]) for row in rows),
        rows[0]["student"],
        rows[0]["metric"],
        *(spread([_metric(row, model) for row in rows], scale_of(rows[0]["metric"])) for model in MODELS),
        spread([row["retention"] for row in rows], unit="%"),
        spread([row["distillation_gain"] for row in rows], scale_of(rows[0]["metric"])),
    ]


def _speed(row: Row) -> list[str]:
    size, bundle = row["teacher_bytes"], row["bundle_bytes"]
    p50, p99 = row["p50_ms"], row["p99_ms"]
    sizes = (
        [_number(size / 1e6, 1), _number(bundle / 1e6, 1), _number(size / bundle, 1)] if size and bundle else ["–"] * 3
    )
    times = [_number(p50.get("teacher")), _number(p50.get("shipped")), _number(p99.get("shipped"))]
    return [row["recipe"], str(row["seed"]), *times, _number(row["speedup"], 1), *sizes]


def _origin(row: Row) -> str:
    teacher, shipped = row["quality"].get("teacher") or {}, row["quality"].get("shipped") or {}
    others = ", ".join(f"{name} {_shown(teacher[name], name)} → {_shown(shipped.get(name), name)}" for name in teacher)
    steps = [f"{name} {count:,}" for name, count in row.get("steps", {}).items() if count is not None]
    learned = f" Optimizer steps: {', '.join(steps)}." if steps else ""
    changed = " with uncommitted changes" if row.get("changed") else ""
    return (
        f"- {row['recipe']} (seed {row['seed']}): {others}.{learned} `{row['command']}`; {row['device']}; "
        f"{row['date']}; commit {row['commit']}{changed}; run {row['digest']}."
    )


def _shown(value: float | None, metric: str = "share") -> str:
    return "–" if value is None else f"{scale_of(metric) * value:.1f}"


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def main() -> None:
    """Record and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="folders of finished runs")
    parser.add_argument("--command", default="", help="the command that made them")
    options = parser.parse_args()
    append(RUNS, [row_of(run, options.command) for run in options.runs])
    for name, content in drawn().items():
        (PAGE.parent / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
