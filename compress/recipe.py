"""The recipe: what a run shall do, as frozen pydantic models. Loading one has no side effects and imports no torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Metric = Literal["accuracy", "precision", "recall", "f1", "macro_f1", "weighted_f1", "auc"]
"""Quality measures, all in 0..1, higher is better."""


class Section(BaseModel):
    """Base of all recipe sections: frozen, unknown keys refused, the text under a field is its description."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )


# ---------------------------------------------------------------- task


class ClassificationTask(Section):
    """One text, one of C classes."""

    kind: Literal["classification"]
    """The kind of task."""
    metric: Metric = "macro_f1"
    """Metric that picks checkpoints and is reported first."""
    unseen_labels: Literal["error", "wrong"] = "error"
    """A label in validation or test that training never shows: refuse the data, or count such rows as wrong."""


class PairsTask(Section):
    """Two texts, one of C labels (match or not, or a relevance grade)."""

    kind: Literal["pairs"]
    """The kind of task."""
    positive: str = "1"
    """The label that counts as a match; used when there are exactly two labels."""
    metric: Metric | None = None
    """Metric that picks checkpoints; when absent, f1 of the positive label for two labels, else macro_f1."""
    unseen_labels: Literal["error", "wrong"] = "error"
    """As for classification."""


Task = Annotated[ClassificationTask | PairsTask, Field(discriminator="kind")]

# ---------------------------------------------------------------- data

Column = str | int


class Columns(Section):
    """Which column holds what: by name, or by position from 0 when the file has no header."""

    id: Column | None = None
    """Identifier of a row; the row's number when absent."""
    text: Column | list[Column] = "text"
    """The text; several columns are joined with a space."""
    text_pair: Column | list[Column] | None = None
    """The second text, for pairs."""
    label: Column | None = "label"
    """The label; not needed for unlabeled data."""
    group: Column | None = None
    """Rows of one group never stand on both sides of a fractional split."""
    weight: Column | None = None
    """Weight of the row in the hard-label loss, above 0."""


class TableSource(Section):
    """A table on disk or on a hub."""

    path: str | list[str] | None = None
    """File, glob, `.gz` file, or archive member `zip://member::file.zip`; a list is read in order."""
    hub: str | None = None
    """Data set id on a hub, instead of a path."""
    name: str | None = None
    """Configuration name of the hub data set."""
    split: str = "train"
    """Split of the hub data set."""
    format: Literal["csv", "tsv", "jsonl", "parquet"] | None = None
    """File format; from the file's ending when absent."""
    header: bool | None = None
    """Whether the first line names the columns (csv, tsv); default true, or as for `train`."""
    quoting: Literal["csv", "none"] | None = None
    """`none`: a quote is a character like any other (csv, tsv); default csv, or as for `train`."""
    columns: Columns | None = None
    """Which column holds what; as for `train` when absent."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Read at most this many rows."""

    @model_validator(mode="after")
    def _one_origin(self) -> TableSource:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give exactly one of `path` and `hub`")
        return self


class Fraction(Section):
    """A share of the training rows, stratified by label, or by whole groups when a group column is given."""

    fraction: Annotated[float, Field(gt=0, lt=1)]
    """Share of the training rows, 0 to 1."""


def _split_kind(value: Any) -> str:
    has = "fraction" in value if isinstance(value, dict) else isinstance(value, Fraction)
    return "fraction" if has else "table"


Split = Annotated[
    Annotated[TableSource, Tag("table")] | Annotated[Fraction, Tag("fraction")], Discriminator(_split_kind)
]


class Transfer(Section):
    """Rows made from the training rows, answered once by the teacher: more to learn from when labels are few."""

    variants: Annotated[int, Field(ge=0)] = 0
    """Training texts with words dropped, replaced or cut away."""
    random_pairs: Annotated[int, Field(ge=0)] = 0
    """For pairs: a first text with the second text of any other row."""
    hard_pairs: Annotated[int, Field(ge=0)] = 0
    """For pairs: a first text with a second text that shares its rare words."""


class FilesData(Section):
    """Tables of the user's own."""

    kind: Literal["files"] = "files"
    """The kind of data."""
    root: str | None = None
    """Folder before every relative path; itself relative to the recipe's file."""
    train: TableSource
    """Labelled rows to learn from."""
    validation: Split = Fraction(fraction=0.1)
    """Rows that pick checkpoints and thresholds: a table, or a share of the training rows."""
    test: Split = Fraction(fraction=0.1)
    """Rows that only the reported figures see: a table, or a share of the training rows."""
    unlabeled: TableSource | list[TableSource] | None = None
    """Transfer set: texts without labels, answered once by the teacher."""
    transfer: Transfer = Transfer()
    """More of a transfer set, made from the training rows."""
    overlap: Literal["warn", "drop"] = "warn"
    """Training rows whose texts also stand in test (and train or validation rows that do): warn, or drop them."""


class SimulatedShop(Section):
    """The built-in, seeded shop: simulated products and queries, so that everything runs without a download."""

    kind: Literal["simulated-shop"]
    """The kind of data."""
    products: Annotated[int, Field(ge=50, le=1_000_000)] = 2000
    """Products in the catalogue."""
    train: Annotated[int, Field(ge=50)] = 4000
    """Labelled training rows."""
    validation: Annotated[int, Field(ge=20)] = 1000
    """Validation rows."""
    test: Annotated[int, Field(ge=20)] = 1000
    """Test rows."""
    unlabeled: Annotated[int, Field(ge=0)] = 0
    """Transfer rows without labels."""
    transfer: Transfer = Transfer()
    """More of a transfer set, made from the training rows."""


def _data_kind(value: Any) -> str:
    return str(value.get("kind", "files") if isinstance(value, dict) else getattr(value, "kind", "files"))


Data = Annotated[
    Annotated[FilesData, Tag("files")] | Annotated[SimulatedShop, Tag("simulated-shop")], Discriminator(_data_kind)
]

# ---------------------------------------------------------------- teacher

LearningRate = Annotated[float, Field(gt=0, le=1)]
Epochs = Annotated[int, Field(ge=1, le=1000)]


class Teach(Section):
    """Fine-tune the encoder on the labelled rows before it teaches."""

    epochs: Epochs = 6
    """Passes over the training rows at the most."""
    learning_rate: LearningRate = 1e-4
    """Peak rate of the body, AdamW, linear warm-up and decay."""
    head_learning_rate: LearningRate = 1e-3
    """Peak rate of the new classification head."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Rows in a step."""
    patience: Annotated[int, Field(ge=1)] = 3
    """Stop after this many epochs without a better validation metric."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the target spread over all classes; keeps the soft targets informative."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of an exponential moving average of the weights, a step; 0 is off."""
    swap_pairs: bool = False
    """Show each pair also in the other order; right only where the order means nothing (matching)."""


class HuggingFaceTeacher(Section):
    """Any AutoModelForSequenceClassification, trained, or an encoder to train first."""

    kind: Literal["huggingface"] = "huggingface"
    """The kind of teacher."""
    model: str
    """Directory, hub id, or `package:NAME` for weights inside an installed Python package."""
    max_length: Annotated[int, Field(ge=4, le=8192)] = 128
    """Tokens of an input at the most, special tokens included."""
    train: Teach | None = None
    """Fine-tune first; absent for a teacher that is already trained."""
    trust_remote_code: bool = False
    """Run code that comes with the model; off unless asked for."""


class ScoresTeacher(Section):
    """A file of scores computed elsewhere, one row for each id."""

    kind: Literal["scores"]
    """The kind of teacher."""
    path: str
    """csv, tsv, jsonl or parquet with the column `id` and one score column for each label, or `score` for a margin."""
    format: Literal["csv", "tsv", "jsonl", "parquet"] | None = None
    """File format; from the file's ending when absent."""
    scale: Literal["detect", "logits", "probabilities", "margins"] = "detect"
    """What the numbers are; detected from their range when not given, and said."""


def _teacher_kind(value: Any) -> str:
    return str(value.get("kind", "huggingface") if isinstance(value, dict) else getattr(value, "kind", "huggingface"))


Teacher = Annotated[
    Annotated[HuggingFaceTeacher, Tag("huggingface")] | Annotated[ScoresTeacher, Tag("scores")],
    Discriminator(_teacher_kind),
]

# ---------------------------------------------------------------- student


class Vocabulary(Section):
    """The student's tokens."""

    keep: Annotated[int, Field(ge=256)] | None = None
    """Keep this many of the teacher's tokens: all characters and special tokens, then the most frequent in the data."""
    train: Annotated[int, Field(ge=256)] | None = None
    """Train a new WordPiece vocabulary of this size on the data, instead of using the teacher's."""

    @model_validator(mode="after")
    def _not_both(self) -> Vocabulary:
        if self.keep is not None and self.train is not None:
            raise ValueError("give at most one of `keep` and `train`")
        return self


class TransformerStudent(Section):
    """A small BERT: layers cut from the teacher, or built anew."""

    kind: Literal["transformer"]
    """The kind of student."""
    layers: Annotated[int, Field(ge=1, le=48)] = 3
    """Transformer layers."""
    hidden: Annotated[int, Field(ge=8, le=8192)] | None = None
    """Width; the teacher's when absent. Another width can only be built anew."""
    heads: Annotated[int, Field(ge=1, le=128)] | None = None
    """Attention heads; when absent the teacher's, or one for each 32 of width."""
    intermediate: Annotated[int, Field(ge=8)] | None = None
    """Width of the feed-forward layer; when absent the teacher's, or four times the width."""
    vocabulary: Vocabulary = Vocabulary()
    """The student's tokens; the teacher's when empty."""
    init: Literal["teacher", "random"] = "teacher"
    """Cut from the teacher's layers, or drawn at random."""
    layer_map: list[Annotated[int, Field(ge=1)]] | None = None
    """Teacher layer (from 1) behind each student layer; evenly spread and ending at the last when absent."""
    max_length: Annotated[int, Field(ge=4, le=8192)] | None = None
    """Tokens of an input at the most; the teacher's when absent."""

    @model_validator(mode="after")
    def _map_fits(self) -> TransformerStudent:
        if self.layer_map is not None and len(self.layer_map) != self.layers:
            raise ValueError(f"layer_map names {len(self.layer_map)} layers, but layers is {self.layers}")
        return self


class MobileStudent(Section):
    """MobileNet-style inverted residual 1-D convolutions over token embeddings; pairs are compared by features."""

    kind: Literal["mobile"]
    """The kind of student."""
    width: Annotated[int, Field(ge=8, le=4096)] = 128
    """Channels."""
    blocks: Annotated[int, Field(ge=1, le=64)] = 4
    """Inverted residual blocks; each is one layer for the hidden-state loss."""
    expansion: Annotated[int, Field(ge=1, le=8)] = 2
    """Channels inside a block, as a multiple of the width."""
    kernel: Annotated[int, Field(ge=1, le=31)] = 5
    """Tokens that a depthwise convolution sees; odd."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout before the head and on the embeddings."""
    vocabulary: Vocabulary = Vocabulary()
    """The student's tokens; the teacher's when empty."""
    init: Literal["teacher", "random"] = "teacher"
    """Token embeddings: the teacher's, reduced to the width by PCA, or drawn at random."""
    layer_map: list[Annotated[int, Field(ge=1)]] | None = None
    """Teacher layer (from 1) behind each block; evenly spread and ending at the last when absent."""
    max_length: Annotated[int, Field(ge=4, le=8192)] | None = None
    """Tokens of an input at the most; the teacher's when absent."""

    @model_validator(mode="after")
    def _shapes(self) -> MobileStudent:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {self.kernel}")
        if self.layer_map is not None and len(self.layer_map) != self.blocks:
            raise ValueError(f"layer_map names {len(self.layer_map)} layers, but blocks is {self.blocks}")
        return self


Student = Annotated[TransformerStudent | MobileStudent, Field(discriminator="kind")]

# ---------------------------------------------------------------- distil

Weight = Annotated[float, Field(ge=0)]


class Losses(Section):
    """Weights of the loss terms."""

    soft: Weight = 0.0
    """Weight of KL(teacher || student)·T², mean over the batch."""
    hidden: Weight = 0.0
    """λ of λ·½·Σ‖φ_t − φ_s‖² on hidden states through a learned projection, mean over the batch and mapped layers."""
    hard: Weight = 0.0
    """Weight of the cross-entropy with the labels, mean over the labelled rows."""


class Stage(Section):
    """One stage of distillation."""

    name: str
    """Shown in progress, logs and plots."""
    epochs: Epochs = 3
    """Passes over the training rows (and the transfer set)."""
    learning_rate: LearningRate = 3e-4
    """Peak rate, AdamW, linear warm-up and decay."""
    temperature: Annotated[float, Field(gt=0, le=100)] = 2.0
    """T: both sides' logits are divided by it."""
    losses: Losses = Losses(soft=1.0)
    """Weights of the loss terms."""

    @model_validator(mode="after")
    def _something_to_learn(self) -> Stage:
        if self.losses.soft == self.losses.hidden == self.losses.hard == 0:
            raise ValueError("every loss weight is 0: nothing to learn")
        return self


class Distill(Section):
    """How the student is trained."""

    stages: Annotated[list[Stage], Field(min_length=1)] = [
        Stage(name="imitate", epochs=3, losses=Losses(soft=1.0)),
        Stage(name="align", epochs=4, losses=Losses(soft=1.0, hidden=0.1, hard=0.2)),
    ]
    """The stages in order; each starts from the best checkpoint of the one before."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Rows in a step."""
    patience: Annotated[int, Field(ge=1)] = 3
    """Stop a stage after this many epochs without a better validation metric."""
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """AdamW's weight decay."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training; auto takes bf16 where the processor has it."""
    control: bool = True
    """Train the same student on hard labels alone, with as many steps, to show what distillation gained."""


# ---------------------------------------------------------------- after training


class Quantize(Section):
    """Lower precision after training."""

    method: Literal["dynamic", "static", "none"] | None = None
    """Absent: dynamic for transformers, static (QDQ) for convolutions, which dynamic makes slower."""
    bits: Literal[8] = 8
    """Bits of weights and activations."""
    calibration: Annotated[int, Field(ge=8)] = 256
    """Training rows that set the ranges of static quantization."""
    max_quality_loss: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Largest loss of the task's metric on validation that is accepted; beyond it the run ends with exit code 5."""


class OnnxExport(Section):
    """ONNX for onnxruntime."""

    to: Literal["onnx"]
    """The format."""
    opset: Annotated[int, Field(ge=17, le=24)] = 20
    """ONNX operator set."""


class TensorRTExport(Section):
    """An engine for NVIDIA GPUs, from the float ONNX of the student."""

    to: Literal["tensorrt", "tensorrt-rtx"]
    """`tensorrt` builds on the GPU of this machine, `tensorrt-rtx` ahead of time for the GPUs named."""
    precision: Literal["fp32", "fp16", "int8"] = "fp16"
    """Arithmetic: fp16, or symmetric int8 (QDQ)."""
    gpus: list[Literal["sm75", "sm80", "sm86", "sm89", "sm120", "sm121"]] = []
    """Compute capabilities to build for; must be named for tensorrt-rtx."""
    max_batch: Annotated[int, Field(ge=1, le=4096)] = 64
    """Largest batch of the optimization profile."""

    @model_validator(mode="after")
    def _gpus_named(self) -> TensorRTExport:
        if self.to == "tensorrt-rtx" and not self.gpus:
            raise ValueError("tensorrt-rtx builds ahead of time: name the GPUs, for example gpus: [sm89]")
        return self


Export = Annotated[OnnxExport | TensorRTExport, Field(discriminator="to")]


class Bench(Section):
    """What is timed."""

    targets: list[Literal["onnxruntime-cpu"]] = ["onnxruntime-cpu"]
    """Runtimes."""
    threads: list[Annotated[int, Field(ge=1, le=256)]] = [1]
    """Threads of the runtime, one measurement each."""
    scenarios: list[Literal["single-stream", "offline"]] = ["single-stream", "offline"]
    """single-stream: one request after the other (latency); offline: batches, as many as possible (throughput)."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32
    """Requests in a batch of the offline scenario."""
    requests: Annotated[int, Field(ge=10)] = 300
    """Requests timed for each artifact, drawn from the test split."""
    rounds: Annotated[int, Field(ge=1)] = 5
    """Rounds in which the artifacts take turns."""


class QualityGate(Section):
    """Quality that the shipped model must keep."""

    metric: Metric
    """Metric on the test split."""
    retain: Annotated[float, Field(gt=0, le=2)]
    """Least share of the teacher's value."""


class Gates(Section):
    """Limits; one that is not met ends the run with exit code 5, artifacts kept."""

    quality: QualityGate | None = None
    """Least quality."""
    p99_ms: Annotated[float, Field(gt=0)] | None = None
    """Largest 99th percentile of the single-stream latency in milliseconds, first entry of bench.threads."""
    size_mb: Annotated[float, Field(gt=0)] | None = None
    """Largest size of the bundle in megabytes (10^6 bytes)."""
    speedup: Annotated[float, Field(gt=0)] | None = None
    """Least speed-up over the teacher."""


class BundleSection(Section):
    """What is packed."""

    targets: list[Literal["python"]] = ["python"]
    """Where the bundle shall run."""


class Recipe(Section):
    """A whole run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
    """Name of the run and of the bundle: letters, digits, `.`, `_`, `-`."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 7
    """The one seed of everything random."""
    task: Task
    """What an answer is."""
    data: Data
    """What to learn from."""
    teacher: Teacher
    """Whom to learn from."""
    student: Student
    """What to build."""
    distill: Distill = Distill()
    """How to train it."""
    quantize: Quantize = Quantize()
    """How to shrink it."""
    export: list[Export] = [OnnxExport(to="onnx")]
    """What to export; ONNX is always made."""
    bench: Bench = Bench()
    """What to time."""
    gates: Gates = Gates()
    """What must hold."""
    bundle: BundleSection = BundleSection()
    """What to ship."""

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        made = self.data.transfer
        if isinstance(self.task, ClassificationTask) and (made.random_pairs or made.hard_pairs):
            raise ValueError("data.transfer: random_pairs and hard_pairs need two texts; set task.kind: pairs")
        scores = isinstance(self.teacher, ScoresTeacher)
        if scores and (made.variants or made.random_pairs or made.hard_pairs):
            raise ValueError("a file of scores cannot answer new rows: leave data.transfer out")
        if isinstance(self.student, TransformerStudent) and self.student.init == "teacher":
            if scores:
                raise ValueError("student.init: teacher needs a teacher model; a file of scores has no layers")
        elif scores and self.student.init == "teacher":
            raise ValueError("student.init: teacher needs a teacher model; set student.init: random")
        if scores and self.student.vocabulary.train is None:
            raise ValueError("a file of scores brings no tokenizer: set student.vocabulary.train to a size")
        if scores and any(stage.losses.hidden for stage in self.distill.stages):
            raise ValueError("a file of scores has no hidden states: set losses.hidden to 0")
        return self

    def dump(self) -> dict[str, Any]:
        """The recipe as plain data, defaults included."""
        return self.model_dump(mode="json")

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the resolved recipe."""
        return digest(self.dump())


def digest(value: Any) -> str:
    """SHA-256 (hex) of plain data in canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class LoadedRecipe(BaseModel):
    """A recipe and the file it came from, against which its relative paths are meant."""

    model_config = ConfigDict(frozen=True)

    recipe: Recipe
    path: Path

    @property
    def folder(self) -> Path:
        """Folder that relative paths start from."""
        return self.path.parent

    def data_root(self) -> Path:
        """Folder before the data's relative paths."""
        root = self.recipe.data.root if isinstance(self.recipe.data, FilesData) else None
        return self.folder if root is None else (self.folder / root)
