"""Asking one teacher about rows: a model through the cache that all runs share, a file of scores by ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from compress.artifacts import SPEC, Artifact, read_spec
from compress.batch import Examples, Floats
from compress.data.encode import encode_examples
from compress.data.load import fingerprint
from compress.errors import DataError
from compress.progress import reporter
from compress.recipe import HuggingFaceTeacher, ScoresTeacher
from compress.steps.context import Metrics, Run
from compress.steps.teaching import HISTORY, judged
from compress.teachers.cache import ENTRIES, Entry, Question, take
from compress.teachers.outputs import compute_outputs
from compress.teachers.scores import read_scores, rows_for


@dataclass(frozen=True)
class Taught:
    """A finished model: as the recipe has it, where it is, and what is known of it."""

    section: HuggingFaceTeacher
    folder: Path
    artifact: Artifact


def ask(
    run: Run,
    taught: Taught,
    rows: Examples,
    out: Path,
    *,
    layers: Sequence[int] = (),
    top_k: int | None = None,
    bf16: bool,
) -> Metrics:
    """Put a model's outputs for rows into a folder, asked once for all runs that ask the same.

    Returns: rows, layers, truncated, and the key of the `entry` in the cache.
    """
    asked = _asked(run, taught, rows, layers, top_k, bf16)
    question, section = asked.question, taught.section

    def fill(shards: Path, arrays: Path) -> Metrics:
        teacher = run.opened(section, taught.folder)
        encoded = encode_examples(teacher.encoder, rows)
        if encoded.truncated:
            cut = f"{encoded.truncated:,} of {len(encoded):,} texts"
            reporter.say(f"  teacher.max_length {section.max_length} cuts {cut}")
        compute_outputs(
            teacher,
            encoded,
            layers=question.layers,
            top_k=question.top_k,
            work=shards,
            out=arrays,
            device=run.device,
            bf16=bf16,
        )
        return {"truncated": encoded.truncated}

    found = take(run.cache / ENTRIES, asked, out, fill)
    return {"rows": asked.rows, "layers": list(question.layers), "entry": question.key} | found


def _asked(run: Run, taught: Taught, rows: Examples, layers: Sequence[int], top_k: int | None, bf16: bool) -> Entry:
    """The question to the teacher; what it stands for is in the files of its stage, whatever they were made from."""
    spec = read_spec(taught.folder)
    question = Question(
        teacher={name: file.sha256 for name, file in taught.artifact.files.items() if name not in (HISTORY, SPEC)},
        reading=spec.model_dump(mode="json", exclude={"threshold"}),
        texts=fingerprint((), [replace(rows, ids=(), labels=None, groups=None, weights=None)]),
        layers=tuple(layers),
        top_k=top_k,
        arithmetic="bf16" if bf16 else "fp32",
    )
    return Entry(
        question=question,
        name=taught.section.model,
        rows=len(rows),
        run=run.folder.name,
        recipe_digest=run.recipe.digest,
    )


@dataclass(frozen=True)
class Scored:
    """A file of scores, read: row of each id, logits float32 [N, C], and the scale that the numbers had."""

    rows: dict[str, int]
    logits: Floats
    scale: str

    def of(self, examples: Examples, split: str) -> Floats:
        """The logits of a split's rows.

        Raises:
            DataError: a row has no scores.
        """
        return rows_for(examples.ids, self.rows, self.logits, split)


def scored(run: Run, section: ScoresTeacher) -> Scored:
    """Read a file of scores for this run's labels."""
    kind = run.judge.kind
    return Scored(*read_scores(section, run.loaded.folder, kind.labels, kind.positive, kind.standard))


def uncovered(run: Run, found: Scored) -> str | None:
    """Why scores cannot be measured: a row of validation or test that has none; None where they can."""
    try:
        found.of(run.splits.validation, "validation")
        found.of(run.splits.test, "test")
    except DataError as error:
        reporter.warn(f"the teacher's quality is not run: {error}")
        return f"not run: {error}"
    return None


def measured_scores(run: Run, found: Scored) -> Metrics:
    """Measures of scores where they cover validation and test, or the reason why not."""
    splits, why = run.splits, uncovered(run, found)
    if why is not None:
        return {"validation": None, "quality": None, "reason": why}
    return judged(run.judge.verdict(found.of(splits.validation, "validation"), found.of(splits.test, "test")))
