"""The model card: what a bundle does, how good and fast it is, how it was made, how to use it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compress.artifacts import ModelSpec, Runtime
from compress.bundle.card_data import card_data
from compress.extras import install_hint
from compress.runtime.answers import AnyAnswer, reading_of
from compress.runtime.predictor import Request

MAX_LABELS = 40
"""Labels that the card lists; the manifest has all."""
NUMBERS = {
    "ranking": "Without a unit: the higher, the better the document suits the query. Scores of different queries do "
    "not compare.",
    "regression": "A number in the unit of the labels that it learned from.",
}
"""What the answer means, for kinds of task that answer with one number."""
TIMED = (("p50 ms", "p50_ms"), ("p99 ms", "p99_ms"), ("requests a second", "qps"), ("peak MB", "peak_mb"))
"""Heading and key of what the card tells of a row of the bench."""
MAX_FLAGGED = 12
"""Flagged slices of a comparison that the card lists; the manifest has all."""


def model_card(  # noqa: PLR0913  # one parameter a section
    name: str,
    spec: ModelSpec,
    *,
    metrics: Mapping[str, Any],
    bench: Mapping[str, Any] | None,
    certificate: Mapping[str, Any] | None,
    provenance: Mapping[str, Any],
    columns: Mapping[str, Sequence[str]],
    notes: Sequence[str],
    licenses: Sequence[str],
    datasets: Sequence[str],
    example: tuple[Request, AnyAnswer],
    variants: Sequence[Runtime] = (),
    items: int | None = None,
) -> str:
    """Markdown after a block of YAML, as the Hugging Face hub has it; the same input gives the same text.

    Args:
        bench: `latency`, rows of a `BenchResult` each, and `device`; None where nothing was timed.
        licenses: names of the files below LICENSES/. datasets: ids on the hub of what it learned from.
        example: a request and its answer. items: how many the bundle brings along. The others are as in `write_bundle`.
    """
    sections = [
        card_data(name, spec.task, metrics=metrics, licenses=licenses, datasets=datasets),
        f"# {name}\n\n{_purpose(spec, variants)}",
        f"## {'Score' if _one_number(spec) else 'Labels'}\n\n{_answers(spec)}",
        "## Use\n\n" + _usage(name, spec, example, columns) + _ranking(name, items),
        "## Quality\n\n" + _table(("measure", "value"), metrics, "No figures were recorded."),
        "## What was lost\n\n" + _lost(name, certificate),
        "## Speed\n\n" + _speed(bench),
        "## How it was made\n\n" + _table(("what", "value"), provenance, "Nothing was recorded."),
        "## Licences\n\n" + _licenses(licenses),
        "## Limits\n\n" + _limits(spec, notes),
    ]
    return sections[0] + "\n" + "\n\n".join(sections[1:]) + "\n"


def _one_number(spec: ModelSpec) -> bool:
    return spec.task in NUMBERS


def _purpose(spec: ModelSpec, variants: Sequence[Runtime]) -> str:
    what = {
        "classification": f"Sorts a text into one of {len(spec.labels)} classes.",
        "pairs": f"Compares two texts and answers with one of {len(spec.labels)} labels.",
        "ranking": "Compares a query with a document and answers with a score, by which the documents of a query are "
        "put in order.",
        "regression": f"Reads {'two texts' if spec.two_texts else 'a text'} and answers with a number.",
    }[spec.task]
    others = "".join(f", or with {name} where that is installed (`{install_hint(name)}`)" for name in variants)
    return (
        f"{what} A student model, distilled from a larger teacher with `kdc`; it runs on a CPU with "
        f"onnxruntime{others} and reads up to {spec.max_length} tokens, special tokens included."
    )


def _answers(spec: ModelSpec) -> str:
    if _one_number(spec):
        return NUMBERS[spec.task]
    shown = ", ".join(f"`{label}`" for label in spec.labels[:MAX_LABELS])
    more = len(spec.labels) - MAX_LABELS
    lines = [shown + (f" and {more} more, all in `manifest.json`." if more > 0 else ".")]
    if spec.positive is not None and spec.threshold is not None:
        lines.append(
            f"`{spec.positive}` is answered when its probability is at least {spec.threshold:.4f}, "
            "a threshold chosen on validation data."
        )
    return "\n\n".join(lines)


def _usage(name: str, spec: ModelSpec, example: tuple[Request, AnyAnswer], columns: Mapping[str, Sequence[str]]) -> str:
    request, answer = example
    fields = {"text": request.text} | ({"text_pair": request.text_pair} if request.text_pair is not None else {})
    line = shlex.quote(json.dumps(fields, ensure_ascii=False))
    return (
        f"```sh\npip install kdc\necho {line} | kdc predict {name}.kdc\nkdc verify {name}.kdc\n```\n\n"
        f"The request above is answered {reading_of(spec).told(answer)}. CSV with columns of "
        f"the same names is read too{_or_columns(columns)}. `kdc verify` checks every byte, and that this machine "
        "computes the golden answers."
    )


def _ranking(name: str, items: int | None) -> str:
    if items is None:
        return ""
    return (
        f"\n\nIt brings {items:,} items along (`items.jsonl`): a request without a second text is answered with those "
        f'that suit it best, as is `compress.load("{name}.kdc").search(["…"])`.'
    )


def _or_columns(columns: Mapping[str, Sequence[str]]) -> str:
    """What else a row may have: the columns of the training data."""
    named = [f"`{'`, `'.join(joined)}` for {name}" for name, joined in columns.items()]
    return f", and so are rows with the columns of the training data ({', '.join(named)})" if named else ""


def _lost(name: str, certificate: Mapping[str, Any] | None) -> str:
    """The certificate in short: each comparison in whole, and the slices that lose more than the rest."""
    if certificate is None or not certificate.get("comparisons"):
        return "Not compared with what it was made from."
    lines = [_comparison(each, certificate) for each in certificate["comparisons"]]
    return "\n".join([*lines, "", f"By label, length and column: `kdc verify {name}.kdc --certificate`."])


def _comparison(found: Mapping[str, Any], certificate: Mapping[str, Any]) -> str:
    metric, names = found["whole"].get("metric"), f"{found['model']} after {found['reference']}"
    if metric is None:
        return f"- {names}: not measured."
    flagged = [f"{each['by']} {each['value']}" for each in found["slices"] if each["status"] == "flagged"]
    shown = ", ".join(f"`{_one_line(each)}`" for each in flagged[:MAX_FLAGGED]) or "none"
    more = f" and {len(flagged) - MAX_FLAGGED} more" if len(flagged) > MAX_FLAGGED else ""
    return (
        f"- {names}: {metric['name']} {metric['reference']:.4f} → {metric['model']:.4f} "
        f"({certificate['confidence']:.0%} interval of the difference {metric['low']:+.4f} … {metric['high']:+.4f}) on "
        f"{found['whole']['rows']:,} test rows; slices that lose more than the rest: {shown}{more}."
    )


def _speed(bench: Mapping[str, Any] | None) -> str:
    """Rows of the bench that were timed, and on which machine."""
    rows = [] if bench is None else [row for row in bench["latency"] if row["status"] == "ok"]
    if bench is None or not rows:
        return "Not timed."
    device = bench.get("device", {})
    headings = ["model", "scenario", "threads", "batch", *(title for title, _ in TIMED)]
    lines = [f"| {' | '.join(headings)} |", "| " + " | ".join(["---"] * len(headings)) + " |"]
    for row in rows:
        told = [row["artifact"], row["scenario"], row["threads"], row["batch"], *(row.get(key) for _, key in TIMED)]
        lines.append("| " + " | ".join(_figure(each) for each in told) + " |")
    where = f"From text to answer, on {device.get('processor')}, {device.get('cores')} cores"
    warned = "".join(f" {_one_line(warning)}." for warning in device.get("warnings", []))
    return "\n".join([*lines, "", f"{where}; `bench.json` has all figures.{warned}"])


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "–" if value is None else _cell(str(value))


def _licenses(files: Sequence[str]) -> str:
    if not files:
        return "None were named; ask who made it before you pass it on."
    return "Of teacher and data, below `LICENSES/`: " + ", ".join(f"`{name}`" for name in sorted(files)) + "."


def _limits(spec: ModelSpec, notes: Sequence[str]) -> str:
    always = [
        "It always answers with a number, even for a text unlike all that it learned from."
        if _one_number(spec)
        else f"It always answers with one of its {len(spec.labels)} labels, even for a text that fits none.",
        "Quality was measured on the test data of its recipe; measure it on yours before relying on it.",
    ]
    return "\n".join(f"- {_one_line(note)}" for note in [*notes, *always])


def _table(header: tuple[str, str], values: Mapping[str, Any], otherwise: str) -> str:
    rows = [f"| {_cell(key)} | {_cell(_shown(value))} |" for key, value in _flat(values)]
    if not rows:
        return otherwise
    return "\n".join([f"| {header[0]} | {header[1]} |", "| --- | --- |", *rows])


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key} ")
        else:
            yield f"{prefix}{key}", value


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cell(text: str) -> str:
    return _one_line(text).replace("|", "\\|")


def _one_line(text: str) -> str:
    return " ".join(text.split())
