"""Append finished runs to `results/runs.jsonl` and draw `docs/results.md` from all recorded rows.

python -m benchmarks.record RUN_FOLDER... --command 'kdc run recipes/…'     record runs, then draw
python -m benchmarks.record                                                  draw only
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.common import append, origin

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "benchmarks" / "results" / "runs.jsonl"
PAGE = ROOT / "docs" / "results.md"
INTRODUCTION = ROOT / "benchmarks" / "results" / "introduction.md"
MODELS = ("baseline", "teacher", "control", "student", "shipped")


def row_of(run: Path, command: str) -> dict[str, Any]:
    """The figures of a finished run, with device, date and commit."""
    summary = json.loads((run / "summary.json").read_bytes())
    latency = [row for row in summary["latency"] if row["scenario"] == "single-stream"]
    device, made = summary["device"], origin()
    return {
        "recipe": summary["name"],
        "digest": run.name.rsplit("-", 1)[-1],
        "seed": summary["recipe"]["seed"],
        "student": summary["recipe"]["student"]["kind"],
        "metric": summary["metric"],
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
        "command": command,
    }


def _ratio(summary: dict[str, Any], name: str) -> float | None:
    models, metric = summary["models"], summary["metric"]
    ours, teachers = ((models.get(model, {}).get("quality") or {}).get(metric) for model in (name, "teacher"))
    return ours / teachers if ours and teachers else None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of an append-only file; none when it is not there."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def draw(rows: list[dict[str, Any]]) -> str:
    """The page: one table of quality, one of speed and size, and where each row comes from."""
    headings = ["recipe", "seed", "student", "metric", *MODELS, "shipped ÷ teacher", "gain over control"]
    lines = ["| " + " | ".join(headings) + " |"]
    lines.append("|" + " --- |" * (len(MODELS) + 6))
    for row in rows:
        values = [_percent((row["quality"].get(name) or {}).get(row["metric"])) for name in MODELS]
        cells = [row["recipe"], str(row["seed"]), row["student"], row["metric"], *values]
        gain = row["distillation_gain"]
        cells += [_percent(row["retention"]) + "%", "–" if gain is None else f"{100 * gain:+.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    headings = [
        "recipe",
        "seed",
        "teacher p50 ms",
        "shipped p50 ms",
        "p99 ms",
        "speed-up",
        "teacher MB",
        "bundle MB",
        "÷",
    ]
    lines += ["", "| " + " | ".join(headings) + " |"]
    lines.append("|" + " --- |" * 9)
    for row in rows:
        size, bundle = row["teacher_bytes"], row["bundle_bytes"]
        p50, p99 = row["p50_ms"], row["p99_ms"]
        cells = [row["recipe"], str(row["seed"]), _number(p50.get("teacher")), _number(p50.get("shipped"))]
        cells += [_number(p99.get("shipped")), _number(row["speedup"], 1)]
        known = size and bundle
        cells += [_number(size / 1e6, 1), _number(bundle / 1e6, 1), _number(size / bundle, 1)] if known else ["–"] * 3
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Other metrics of the test split (teacher → shipped), and where each row comes from:", ""]
    lines += [_origin(row) for row in rows]
    return "\n".join(lines) + "\n"


def _origin(row: dict[str, Any]) -> str:
    teacher, shipped = row["quality"].get("teacher") or {}, row["quality"].get("shipped") or {}
    others = ", ".join(f"{name} {_percent(teacher[name])} → {_percent(shipped.get(name))}" for name in teacher)
    return (
        f"- {row['recipe']} (seed {row['seed']}): {others}. `{row['command']}`; {row['device']}; {row['date']}; "
        f"commit {row['commit']}; run {row['digest']}."
    )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def main() -> None:
    """Record and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="folders of finished runs")
    parser.add_argument("--command", default="", help="the command that made them")
    options = parser.parse_args()
    append(RUNS, [row_of(run, options.command) for run in options.runs])
    PAGE.write_text(INTRODUCTION.read_text(encoding="utf-8") + "\n" + draw(read_rows(RUNS)), encoding="utf-8")


if __name__ == "__main__":
    main()
