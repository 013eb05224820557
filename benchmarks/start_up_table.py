"""What `benchmarks.start_up` found, as a section of docs/results.md."""

from __future__ import annotations

from typing import Any

from benchmarks.start_up import END_TO_END, LIMITS
from benchmarks.tables import table

FIGURES = {
    "help_s": "`kdc --help`, s",
    "predict_s": "`kdc predict`, s",
    "load_s": "`compress.load` and an answer, s",
    "load_cpu_s": "the same, processor, s",
    "beyond_model_mib": "memory beyond the bundle, MiB",
    "peak_with_libraries_mib": "peak with libraries, MiB",
    "warm_ratio": "text to answer ÷ model alone, titles known",
    "cold_ratio": "the same, titles new",
}


def draw_start_up(rows: list[dict[str, Any]]) -> str:
    """The newest row of each bundle: a line a figure, a column a bundle."""
    newest = {row["bundle"]: row for row in rows}
    if not newest:
        return ""
    columns = [f"{name} ({row['family']}, {row['model_mib']} MiB)" for name, row in newest.items()]
    limits = {name: f"{limit:g}" for name, limit in LIMITS.items()}
    limits["warm_ratio"] = ", ".join(f"{family} {limit:g}" for family, limit in END_TO_END.items())
    cells = [
        [told, limits.get(name, ""), *(f"{row[name]:.3g}" for row in newest.values())] for name, told in FIGURES.items()
    ]
    origins = {f"{row['machine']['processor']}, {row['date'][:10]}, commit {row['commit']}" for row in newest.values()}
    return "\n".join(
        [
            "",
            "## Start-up, memory, text to answer",
            "",
            "Medians of fresh processes, and of single requests in blocks that take turns, one thread. Memory is what",
            "the process has for itself; pages of libraries, which processes share, count in the peak.",
            "`python -m benchmarks.start_up BUNDLE …`;",
            f"{'; '.join(sorted(origins))}.",
            "",
            *table(["", "limit", *columns], cells),
            "",
        ]
    )
