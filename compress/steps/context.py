"""What the stages of one run share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.artifacts import CACHE, Artifact, ModelSpec, sha256_file
from compress.batch import Examples, Splits
from compress.data.load import fingerprint
from compress.errors import DataError
from compress.recipe import HuggingFaceTeacher, LoadedRecipe, OneTeacher, Recipe, digest, is_plain, lead_of, teachers_of
from compress.runtime.predictor import Request
from compress.teachers.arrays import kept_classes
from compress.texts import Joined

MODELS = "models"
"""Folder in that of the teacher's stage for each of the models of a teacher that has several."""

if TYPE_CHECKING:
    import torch

    from compress.bundle.sign import Signer
    from compress.distill.judge import Judge
    from compress.students.vocabulary import StudentTokens
    from compress.teachers.huggingface import Teacher


@dataclass
class Run:
    """One run: its recipe, data, folder and finished artifacts."""

    loaded: LoadedRecipe
    folder: Path
    splits: Splits
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    identities: dict[OneTeacher, str] = field(default_factory=dict, repr=False)
    signer: Signer | None = None
    """Whose key signs the bundle; not part of the recipe, which says what is made and not who vouches for it."""

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return self.loaded.recipe

    @cached_property
    def judge(self) -> Judge:
        """Measures models on this run's splits."""
        from compress.distill.judge import Judge

        return Judge(self.splits, self.recipe.task)

    @cached_property
    def read_by_teacher(self) -> Splits:
        """The data with what the teacher alone reads; everything else that reads texts takes `splits`."""
        return self.splits.for_teacher

    @cached_property
    def teacher_judge(self) -> Judge:
        """Measures the teacher, on what it reads."""
        from compress.distill.judge import Judge

        return Judge(self.read_by_teacher, self.recipe.task)

    @cached_property
    def device(self) -> torch.device:
        """Where training runs."""
        from compress.distill.device import training_device

        return training_device()

    @property
    def bf16(self) -> bool:
        """Whether training computes in bfloat16."""
        from compress.distill.device import use_bf16

        return use_bf16(self.recipe.distill.precision, self.device)

    @cached_property
    def labelled(self) -> str:
        """Hash of the labelled rows."""
        splits = self.splits
        return fingerprint(splits.labels, [splits.train, splits.validation, splits.test, None])

    def at(self, stage: str) -> Path:
        """Folder of a stage's artifact."""
        return self.folder / stage

    @cached_property
    def teacher_identity(self) -> str:
        """Hash of what the teacher starts from: its files, or its file of scores; id and revision of one on a hub.

        Of several teachers that of theirs in order.

        Raises:
            DataError: there is no such file.
        """
        from compress.teachers.load import told_of

        found = []
        for key, section in teachers_of(self.recipe.teacher):
            with told_of(key):
                found.append(self.identity(section))
        return found[0] if len(found) == 1 else digest(found)

    def identity(self, section: OneTeacher) -> str:
        """Hash of what one teacher starts from, read once.

        Raises:
            DataError: there is no such file.
        """
        if section not in self.identities:
            self.identities[section] = self._identity(section)
        return self.identities[section]

    def _identity(self, section: OneTeacher) -> str:
        from compress.teachers.load import fingerprint as hashed
        from compress.teachers.load import resolve

        if isinstance(section, HuggingFaceTeacher):
            return hashed(section, resolve(section.model, self.loaded.folder))
        path = self.loaded.folder / section.path
        if not path.is_file():
            raise DataError(f"teacher.path: there is no file {path}")
        return sha256_file(path)

    @property
    def cache(self) -> Path:
        """What this run shares with the others of its folder."""
        return self.folder.parent / CACHE

    @property
    def top_k(self) -> int | None:
        """How many of a row's teacher logits are kept, the largest; None for all."""
        return kept_classes(self.recipe.distill.top_k, len(self.splits.labels))

    def taught(self) -> Teacher | None:
        """The finished teacher, of several the lead, loaded anew from this run; None for files of scores."""
        section = lead_of(self.recipe.teacher)
        return None if section is None else self.opened(section, self.lead_folder)

    @property
    def lead_folder(self) -> Path:
        """Folder of the finished model whose states, tokens and weights the student sees."""
        teacher = self.recipe.teacher
        if is_plain(teacher):
            return self.at("teacher")
        models = [isinstance(section, HuggingFaceTeacher) for _, section in teachers_of(teacher)]
        return self.at("teacher") / MODELS / str(models.index(True))

    def opened(self, section: HuggingFaceTeacher, folder: Path) -> Teacher:
        """A finished teacher, loaded from the folder where this run has it."""
        from compress.teachers.huggingface import load_teacher

        own = section.model_copy(update={"model": str(folder.resolve())})
        return load_teacher(
            own,
            self.folder,
            task=self.recipe.task.kind,
            labels=self.splits.labels,
            positive=self.judge.kind.positive,
            trained=True,
            two_texts=self.judge.kind.two_texts,
            standard=self.judge.kind.standard,
        )

    @property
    def texts(self) -> Sequence[str]:
        """What the student learns from: texts of the training rows and the transfer set."""
        rows = self.splits.transfer
        return Joined(rows.texts, rows.pairs or [])

    @cached_property
    def tokens(self) -> StudentTokens:
        """The student's vocabulary, from the training texts and the transfer set."""
        from compress.students.build import student_tokens

        teacher = self.taught()
        return student_tokens(
            self.recipe.student,
            None if teacher is None else teacher.tokenizer_json,
            0 if teacher is None else teacher.spec.pad_id,
            self.texts,
        )


def requests_of(rows: Examples) -> list[Request]:
    """Rows as the device receives them."""
    pairs: Sequence[str | None] = rows.pairs or [None] * len(rows)
    return [Request(text, pair, row_id) for text, pair, row_id in zip(rows.texts, pairs, rows.ids, strict=True)]


def with_threshold(spec: ModelSpec, threshold: float | None) -> ModelSpec:
    """The specification with the threshold that validation chose."""
    return spec.model_copy(update={"threshold": threshold})


FLOAT = "student"
"""Below the stage `onnx`: the exported student, which quantization starts from."""
Metrics = dict[str, Any]
"""What a stage found out; it stands in its artifact.json. `failure`: why the artifact is kept, but marked failed."""
