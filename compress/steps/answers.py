"""Asking one teacher about rows: a model through the cache that all runs share, a file of scores by ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from compress import parallel
from compress.artifacts import SPEC, Artifact, read_spec
from compress.batch import Examples, Floats, Ints, Splits
from compress.data.encode import encode_examples
from compress.data.load import fingerprint
from compress.errors import DataError, EnvironmentProblem
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


@dataclass(frozen=True)
class Part:
    """Rows of a split; numbers: which of them, None for all."""

    split: Literal["train", "validation", "test", "transfer"]
    numbers: Ints | None = None

    def of(self, splits: Splits) -> Examples:
        """The rows."""
        rows: Examples = getattr(splits, self.split)
        return rows if self.numbers is None else rows.take(self.numbers)


@dataclass(frozen=True)
class Errand:
    """What all processes ask together: a model in a folder, about rows; its shards go where all see them."""

    section: HuggingFaceTeacher
    folder: Path
    part: Part
    question: Question
    shards: Path


NOTHING: Errand | None = None
"""What the first process tells the others when there is nothing more to ask."""


def ask(
    run: Run,
    taught: Taught,
    part: Part,
    out: Path,
    *,
    layers: Sequence[int] = (),
    top_k: int | None = None,
    bf16: bool,
) -> Metrics:
    """Put a model's outputs for rows into a folder, asked once for all runs that ask the same.

    Of several processes the first calls this, and `nothing_more` in the end; the others call `help_to_ask`.

    Returns: rows, layers, truncated, and the key of the `entry` in the cache.
    """
    asked = _asked(run, taught, part.of(run.read_by_teacher), layers, top_k, bf16)
    question = asked.question

    def fill(shards: Path, arrays: Path) -> Metrics:
        errand = Errand(taught.section, taught.folder, part, question, shards)
        parallel.agree(errand)
        return _do(run, errand, arrays, scratch=shards)

    found = take(run.cache / ENTRIES, asked, out, fill)
    return {"rows": asked.rows, "layers": list(question.layers), "entry": question.key} | found


def nothing_more() -> None:
    """Let the other processes go on."""
    parallel.agree(NOTHING)


def help_to_ask(run: Run, scratch: Path) -> None:
    """Do this process's share of what the first one has to ask, until that is nothing."""
    while (errand := parallel.agree(NOTHING)) is not None:
        if not errand.shards.is_dir():
            raise EnvironmentProblem(
                f"process {parallel.rank()} does not see {errand.shards}, where the first one works: name a folder "
                "with --runs that is on a file system all machines share"
            )
        _do(run, errand, scratch, scratch=scratch)


def _do(run: Run, errand: Errand, arrays: Path, *, scratch: Path) -> Metrics:
    """Ask a process's share; the first has all in `arrays` then. scratch: where its file of tokens may stand."""
    teacher = run.opened(errand.section, errand.folder)
    encoded = encode_examples(teacher.encoder, errand.part.of(run.read_by_teacher), scratch)
    if encoded.truncated:
        cut = f"{encoded.truncated:,} of {len(encoded):,} texts"
        reporter.say(f"  teacher.max_length {errand.section.max_length} cuts {cut}")
    compute_outputs(
        teacher,
        encoded,
        layers=errand.question.layers,
        top_k=errand.question.top_k,
        work=errand.shards,
        out=arrays,
        device=run.device,
        bf16=errand.question.arithmetic == "bf16",
    )
    return {"truncated": encoded.truncated}


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
