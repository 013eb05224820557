"""The model card: what a bundle does, how good it is, how it was made, how to use it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compress.artifacts import ModelSpec, Runtime
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


def model_card(
    name: str,
    spec: ModelSpec,
    *,
    metrics: Mapping[str, Any],
    provenance: Mapping[str, Any],
    columns: Mapping[str, Sequence[str]],
    notes: Sequence[str],
    example: tuple[Request, AnyAnswer],
    variants: Sequence[Runtime] = (),
) -> str:
    """Markdown; the same input gives the same text."""
    sections = [
        f"# {name}\n\n{_purpose(spec, variants)}",
        f"## {'Score' if _one_number(spec) else 'Labels'}\n\n{_answers(spec)}",
        "## Use\n\n" + _usage(name, spec, example, columns),
        "## Quality\n\n" + _table(("measure", "value"), metrics, "No figures were recorded."),
        "## How it was made\n\n" + _table(("what", "value"), provenance, "Nothing was recorded."),
        "## Limits\n\n" + _limits(spec, notes),
    ]
    return "\n\n".join(sections) + "\n"


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


def _or_columns(columns: Mapping[str, Sequence[str]]) -> str:
    """What else a row may have: the columns of the training data."""
    named = [f"`{'`, `'.join(joined)}` for {name}" for name, joined in columns.items()]
    return f", and so are rows with the columns of the training data ({', '.join(named)})" if named else ""


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
