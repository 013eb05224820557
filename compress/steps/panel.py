"""The teachers of a run asked together: each by itself, through the cache, and their answers made one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from compress.artifacts import link_or_copy, read_artifact, remove
from compress.batch import Floats, Ints, Labels, Numbers
from compress.data.encode import encode_examples
from compress.errors import DataError, IntegrityError
from compress.predict import predict_logits
from compress.progress import reporter
from compress.recipe import HuggingFaceTeacher, OneTeacher, ScoresTeacher, SeveralTeachers, is_plain, teachers_of
from compress.steps.answers import Part, Scored, Taught, ask, measured_scores, scored, uncovered
from compress.steps.context import MODELS, Metrics, Run
from compress.steps.models import Model, fold_models, model_of
from compress.steps.teaching import fold_numbers, judged
from compress.students.fits import layer_map_of
from compress.teachers.arrays import HIDDEN, read_outputs
from compress.teachers.calibration import Calibration, calibrate
from compress.teachers.load import told_of
from compress.teachers.several import confident_shares, mixture, shares, weighted_mean

SAID = "said"
Rows = Callable[[int, int], Floats]
"""Logits float32 [n, C] of the rows from one number up to another."""


class Panel:
    """The teachers of a run.

    root: folder of the stage `teacher`, which may not be finished yet. work: for links to what the cache has. entries:
    keys of what was taken from there so far. lead: number of the first teacher that is a model, or None.
    """

    def __init__(self, run: Run, root: Path, work: Path) -> None:
        self.run, self.root, self.scratch = run, root, work / SAID
        remove(self.scratch)
        self.entries: list[str] = []
        self.teachers: list[tuple[str, OneTeacher]] = list(teachers_of(run.recipe.teacher))
        models = [number for number, (_, each) in enumerate(self.teachers) if isinstance(each, HuggingFaceTeacher)]
        self.lead = models[0] if models else None
        self.scored: Callable[[ScoresTeacher], Scored] = cache(lambda section: scored(run, section))

    # ------------------------------------------------------------ what each is

    def taught(self, model: Model) -> Taught:
        """A finished model.

        Raises:
            IntegrityError: it is not there.
        """
        if is_plain(self.run.recipe.teacher):
            return Taught(model.section, self.root, self.run.artifacts["teacher"])
        folder = self.root / MODELS / model.name
        found = read_artifact(folder)
        if found is None:
            raise IntegrityError(f"there is no model in {folder}; delete {self.root} to make it anew")
        return Taught(model.section, folder, found)

    def described(self, number: int) -> Metrics:
        """One teacher's measures, and on validation those of the models of its folds."""
        key, section = self.teachers[number]
        if isinstance(section, ScoresTeacher):
            with told_of(key):
                return {"teacher": section.path} | measured_scores(self.run, self.scored(section))
        model = model_of(self.run, number, key, section)
        metrics = self.taught(model).artifact.metrics
        found = {"teacher": section.model, "seed": None if section.train is None else model.seed}
        found |= {name: metrics[name] for name in ("validation", "quality", "threshold")}
        folds = [self.taught(each).artifact.metrics["validation"] for each in fold_models(model)]
        return found | ({"folds": folds} if folds else {})

    # ------------------------------------------------------------ what each says

    def _on(self, number: int, part: Part) -> Floats:
        """One teacher's logits for validation or test, which no model has learned from."""
        key, section = self.teachers[number]
        with told_of(key):
            if isinstance(section, ScoresTeacher):
                return self.scored(section).of(part.of(self.run.splits), part.split)
            model = model_of(self.run, number, key, section)
            # In full precision, as all models are measured.
            return np.asarray(read_outputs(self._asked(model, part)).logits, np.float32)

    def _asked(self, model: Model, part: Part, layers: Sequence[int] = (), *, bf16: bool = False) -> Path:
        """Folder of a model's outputs."""
        out = self.scratch / f"{model.name}-{part.split}"
        found = ask(self.run, self.taught(model), part, out, layers=layers, bf16=bf16)
        self.entries.append(found["entry"])
        return out

    def transfer(self, number: int, out: Path) -> Rows:
        """One teacher's logits for the transfer set; the lead's hidden states are linked into `out`."""
        key, section = self.teachers[number]
        with told_of(key):
            if isinstance(section, ScoresTeacher):
                logits = self.scored(section).of(self.run.splits.transfer, "train")
                return lambda start, stop: logits[start:stop]
            model = model_of(self.run, number, key, section)
            layers = self.layers if number == self.lead else ()
            folder = self._asked(model, Part("transfer"), layers, bf16=self.run.bf16)
            if layers:
                link_or_copy(folder / HIDDEN, out / HIDDEN)
            whole = read_outputs(folder).logits
            if not model.folds:
                return lambda start, stop: np.asarray(whole[start:stop], np.float32)
            return self._out_of_fold(model, whole)

    def _out_of_fold(self, model: Model, whole: np.ndarray) -> Rows:
        """The training rows, which come first, as the model of their fold answers them; the others by that of all."""
        train, dealt = self.run.splits.train, fold_numbers(self.run, model)
        place = np.empty(len(train), np.int64)
        said = []
        for each in fold_models(model):
            own = np.flatnonzero(dealt == each.fold)
            place[own] = np.arange(len(own))
            folder = self._asked(each, Part("train", own), bf16=self.run.bf16)
            said.append(read_outputs(folder).logits)

        def rows(start: int, stop: int) -> Floats:
            found = np.array(whole[start:stop], np.float32)
            for fold, logits in enumerate(said):
                own = np.flatnonzero(dealt[start:stop] == fold)
                found[own] = logits[place[start + own]]
            return found

        return rows

    @property
    def layers(self) -> tuple[int, ...]:
        """The lead's layers whose states are kept."""
        key, section = self.teachers[self.lead or 0]
        if self.lead is None or isinstance(section, ScoresTeacher) or not self.run.recipe.distill.wants_hidden:
            return ()
        metrics = self.taught(model_of(self.run, self.lead, key, section)).artifact.metrics
        return layer_map_of(self.run.recipe.student, metrics["layers"])

    # ------------------------------------------------------------ what they say together

    def mixed(self, logits: Sequence[Floats], labels: Labels | None) -> Numbers:
        """What the teachers' logits, [N, C] each, are together; labels: of rows on which the gate may look at them."""
        teacher = self.run.recipe.teacher
        if not isinstance(teacher, SeveralTeachers):
            return np.asarray(logits[0], np.float64)
        said, weights = np.stack(logits), [member.weight for member in teacher.members]
        if self.run.recipe.task.numbers:
            return weighted_mean(said, shares(weights, said.shape[1]))
        if teacher.gate == "none":
            return mixture(said, shares(weights, said.shape[1]))
        return mixture(said, confident_shares(said, _classes(labels), weights))

    def _together(self, part: Part) -> Floats:
        """Logits for validation or test, whose labels no gate sees."""
        said = [self._on(number, part) for number in range(len(self.teachers))]
        return self.mixed(said, None).astype(np.float32)

    def on_test(self) -> Floats:
        """Logits float32 [N, C] for test, by models that are run again: nothing is kept, and no process needs help."""
        return self.mixed([self._measured(number) for number in range(len(self.teachers))], None).astype(np.float32)

    def _measured(self, number: int) -> Floats:
        """One teacher's logits for test, in full precision."""
        key, section = self.teachers[number]
        with told_of(key):
            if isinstance(section, ScoresTeacher):
                return self.scored(section).of(self.run.splits.test, "test")
            taught = self.taught(model_of(self.run, number, key, section))
            teacher = self.run.opened(section, taught.folder)
            rows = encode_examples(teacher.encoder, self.run.read_by_teacher.test)
            return predict_logits(teacher.module, rows, self.run.device)

    def judged(self) -> Metrics:
        """Measures of what they say together, with a threshold of its own; why not, where scores do not cover it."""
        for key, section in self.teachers:
            if isinstance(section, ScoresTeacher):
                with told_of(key):
                    why = uncovered(self.run, self.scored(section))
                if why is not None:
                    return {"validation": None, "quality": None, "reason": why}
        return judged(self.run.judge.verdict(self._together(Part("validation")), self._together(Part("test"))))

    def calibrated(self) -> Calibration:
        """The temperature of what they say together, fitted on validation.

        Raises:
            DataError: no row there has a label or scores.
        """
        labels = _classes(self.run.splits.validation.labels)
        if labels is None or not (labels >= 0).any():
            raise DataError("teacher.calibrate needs labels, and no validation row has one that training knows")
        found = calibrate(self._together(Part("validation")), labels)
        reporter.say(
            f"  teacher temperature {found.temperature:.3f}: expected calibration error {found.error_before:.4f} -> "
            f"{found.error_after:.4f} on {found.rows:,} validation rows"
        )
        if not found.fitted:
            reporter.warn(
                f"teacher.calibrate: the teacher is right on all {found.rows:,} validation rows, which tell of no "
                "temperature: its answers are taken as they are; give more rows, or leave it out"
            )
        return found


def _classes(labels: Labels | None) -> Ints | None:
    """Labels as class indices, which those of a task with labels are."""
    return None if labels is None else labels.astype(np.int64)
