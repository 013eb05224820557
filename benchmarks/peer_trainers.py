"""The peers, each used as its own documentation does, through its public interface.

Equal for all: the student's start, the rows and their batches, the teacher's answers, bfloat16 in the student's
forward pass, the number of steps, the peak learning rate. The rest is what a user of the peer gets: the loss, and

textbrewer             AdamW; linear warm-up over a tenth, linear decay; no clipping. Cross-entropy at the recipe's
                       temperature, hidden states at weight 1 (mean squared error of token means, projected where
                       widths differ), the recipe's weight for hard labels.
torchdistill           AdamW without weight decay; linear decay; gradients clipped at 1. Hinton's KDLoss with alpha =
                       hard / (soft + hard) of the recipe.
sentence-transformers  CrossEncoderTrainer; linear warm-up over a tenth, linear decay; gradients clipped at 1. MSELoss
                       on the teacher's score, positive − other logit; the student's two outputs become their
                       difference, so that it starts as the same function.

model2vec is the exception: it takes teacher and labelled rows, makes its own student and stops by its own rule
(`peer_model2vec.py`, in an environment of its own). It is what one would use in place of a `static` student.
"""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peer_apart import Said, model2vec, needs_one_labelled_text
from benchmarks.peer_study import ROWS, AsPeersCall, Batch, Batches, Keeper, KeptTeacher, Study
from compress.errors import EnvironmentProblem
from compress.extras import available, version
from compress.tasks.kind import labels_of
from compress.text_model import TextModel, TransformerClassifier

WARMUP = 0.1


@dataclass(frozen=True)
class Peer:
    """A toolkit.

    package: what is imported, by a process that runs in the environment named after the peer. None where the peer is
    handed files and runs there as a program of its own.
    obstacle: why it cannot train a study's student, or None. train: (study, folder for its files) -> the student with
    its best weights, or what it answers.
    """

    package: str | None
    obstacle: Callable[[Study], str | None]
    train: Callable[[Study, Path], TextModel | Said]


def _needs_labels(study: Study) -> str | None:
    kind = study.run.recipe.task.kind
    if study.run.recipe.task.numbers:
        return f"its loss compares the probabilities of labels, which task.kind: {kind} does not have"
    if study.outputs.classes is not None:
        return "its loss compares all labels, and distill.top_k keeps the largest logits alone"
    return None


def textbrewer(study: Study, work: Path) -> TextModel:
    """`GeneralDistiller` over a number of steps, judged in its callback."""
    from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig
    from transformers import get_linear_schedule_with_warmup

    hidden = study.outputs.hidden is not None and bool(study.built.layer_map)
    student = AsPeersCall(study, hidden=hidden)
    keeper = Keeper(study, "textbrewer", study.built.module)
    distiller = GeneralDistiller(
        TrainingConfig(
            ckpt_steps=study.epoch_steps, log_dir=None, output_dir=str(work / "textbrewer"), device=study.run.device
        ),
        DistillationConfig(
            temperature=study.aim.temperature,
            hard_label_weight=study.aim.weights.get("hard", 0.0),
            intermediate_matches=_matches(study) if hidden else None,
        ),
        KeptTeacher(study, hidden=hidden),
        student,
        _said,
        lambda batch, results: _said(batch, results) | {"losses": [_hard(study, batch, results)]},
    )
    # The examples take AdamW from transformers, which has none any more; torch's is the same.
    optimizer = torch.optim.AdamW(student.parameters(), lr=study.rate)
    with distiller:
        distiller.train(
            optimizer,
            study.loader(),
            scheduler_class=get_linear_schedule_with_warmup,
            scheduler_args={"num_warmup_steps": int(WARMUP * study.steps), "num_training_steps": study.steps},
            num_steps=study.steps,
            callback=lambda model, step: keeper.after(step),
        )
    return keeper.finish()


def _matches(study: Study) -> list[dict[str, Any]]:
    """Each mapped layer's states; projected only where that is needed, as TextBrewer's documentation has it."""
    ours, theirs = study.built.module.width, study.built.projections[0].out_features
    projection = {} if ours == theirs else {"proj": ["linear", ours, theirs]}
    return [
        {"layer_T": i, "layer_S": i, "feature": "hidden", "loss": "hidden_mse", "weight": 1} | copy.deepcopy(projection)
        for i in range(len(study.built.layer_map))
    ]


def _said(batch: Batch, results: Any) -> dict[str, Any]:
    """A model's answer as TextBrewer wants it."""
    if isinstance(results, Tensor):
        return {"logits": results}
    logits, hidden = results
    return {"logits": logits, "hidden": list(hidden.unbind(1))}


def _hard(study: Study, batch: Batch, results: Any) -> Tensor:
    logits = results if isinstance(results, Tensor) else results[0]
    return study.objectives.hard(logits, batch[ROWS].cpu().numpy())


def torchdistill(study: Study, work: Path) -> TextModel:
    """`DistillationBox` in the loop that its examples write."""
    box = _box(study)
    keeper = Keeper(study, "torchdistill", study.built.module)
    for step, batch in enumerate(study.loader()):
        if step % study.epoch_steps == 0:
            box.pre_epoch_process(epoch=step // study.epoch_steps)
        loss = box.forward_process(batch, _targets(study, batch))
        box.post_forward_process(loss)
        keeper.after(step + 1)
    return keeper.finish()


def _box(study: Study) -> Any:
    with _image_models():
        from torchdistill.core.distillation import get_distillation_box
        from torchdistill.optim.registry import register_scheduler
    from transformers import get_linear_schedule_with_warmup

    register_scheduler(get_linear_schedule_with_warmup)
    hard, soft = (study.aim.weights.get(name, 0.0) for name in ("hard", "soft"))
    ends = {f"{model}_module_{key}": value for model in ("student", "teacher") for key, value in _WHOLE.items()}
    settings = {"temperature": study.aim.temperature, "alpha": hard / (hard + soft), "reduction": "batchmean"}
    criterion = {"key": "KDLoss", "kwargs": ends | settings}
    calls = {"forward_proc": "forward_batch_only_as_kwargs"}
    schedule = {"num_warmup_steps": 0, "num_training_steps": study.steps}
    config = {
        "num_epochs": -(-study.steps // study.epoch_steps),
        "teacher": calls | {"requires_grad": False},
        "student": dict(calls),
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"kd": {"criterion": criterion, "weight": 1}}}},
        "optimizer": {"key": "AdamW", "kwargs": {"lr": study.rate, "weight_decay": 0.0}, "max_grad_norm": 1.0},
        "scheduler": {"key": "get_linear_schedule_with_warmup", "kwargs": schedule, "scheduling_step": 1},
    }
    return get_distillation_box(
        KeptTeacher(study), AsPeersCall(study), {}, config, study.run.device, None, distributed=False, lr_factor=1
    )


_WHOLE = {"path": ".", "io": "output"}
"""What a model as a whole returns, for torchdistill's losses."""


def _targets(study: Study, batch: Batch) -> Tensor | None:
    """Labels of a batch as cross-entropy wants them; None when no row has one, whose mean would be no number."""
    picked = batch[ROWS].cpu().numpy()
    labels = torch.from_numpy(labels_of(study.rows)[picked]).to(batch[ROWS].device)
    return None if bool((labels < 0).all()) else labels.masked_fill(labels < 0, nn.CrossEntropyLoss().ignore_index)


def check_torchvision() -> None:
    """Tell of a torchvision that does not load before transformers fails on it with a message about something else.

    Raises:
        EnvironmentProblem: it is there, but of another build than torch.
    """
    if not available("torchvision"):
        return
    try:
        importlib.import_module("torchvision")
    except (ImportError, OSError, RuntimeError) as error:
        raise EnvironmentProblem(
            f"torchvision does not load beside torch {version('torch')} ({error}): install the one of the same build, "
            "such as `pip install torchvision --index-url https://download.pytorch.org/whl/cpu`, or remove it"
        ) from error


@contextmanager
def _image_models() -> Iterator[None]:
    """Where torchvision is missing, stand-ins for the parts that torchdistill imports and that no text model uses."""
    if available("torchvision"):
        yield
        return
    parts: dict[str, tuple[str, ...]] = {"": (), ".datasets": (), ".models": ()}
    parts |= {".models.densenet": ("_DenseBlock", "_Transition"), ".models.resnet": ("BasicBlock", "conv1x1")}
    for part, names in parts.items():
        module = ModuleType(f"torchvision{part}")
        for name in names:
            setattr(module, name, type(name, (nn.Module,), {}))
        sys.modules[module.__name__] = module
    try:
        yield
    finally:
        for part in parts:
            del sys.modules[f"torchvision{part}"]


def _needs_one_score(study: Study) -> str | None:
    """Its distillation losses are MSELoss and MarginMSELoss, both for one score of two texts."""
    recipe, module, labels = study.run.recipe, study.built.module, study.run.splits.labels
    if study.rows.pairs is None:
        return "its distillation losses compare a score of two texts, and this task has one text"
    if len(labels) != 2:
        outputs = f"{len(labels)} labels" if len(labels) > 1 else "a number"
        return f"its distillation losses compare a score of two texts, here made of two labels; this task has {outputs}"
    if not isinstance(module, TransformerClassifier) or not isinstance(
        getattr(module.model, "classifier", None), nn.Linear
    ):
        return (
            "a CrossEncoder is a sequence classifier of transformers with one linear layer at its end, and "
            f"student.kind: {recipe.student.kind} is none"
        )
    if not isinstance(module.model.get_input_embeddings(), nn.Embedding):
        return "transformers reads no student with factored token embeddings (student.embedding_size)"
    return None


class ScoreAsLogits(TextModel):
    """A classifier with one output s as one with two labels: logits [0, s] in the order of the labels, [B, 2]."""

    def __init__(self, model: Any, input_names: Sequence[str], positive: int) -> None:
        super().__init__()
        self.model, self.input_names, self.positive = model, tuple(input_names), positive

    def forward(self, *inputs: Tensor, hidden: Sequence[int] = ()) -> Any:
        scores = self.model(**dict(zip(self.input_names, inputs, strict=True))).logits
        pair = [torch.zeros_like(scores), scores]
        return torch.cat(pair if self.positive else pair[::-1], -1)


def sentence_transformers(study: Study, work: Path) -> TextModel:
    """`CrossEncoderTrainer` with `MSELoss`, judged in a callback."""
    encoder = cross_encoder(study, work / "start")
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoderTrainer
    from sentence_transformers.cross_encoder.losses import MSELoss
    from sentence_transformers.cross_encoder.training_args import CrossEncoderTrainingArguments
    from transformers import TrainerCallback

    positive = _positive(study)
    module = ScoreAsLogits(encoder.transformers_model, study.built.module.input_names, positive)
    keeper = Keeper(study, "sentence-transformers", module)

    class Judging(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
        def on_step_end(self, args: Any, state: Any, control: Any, **_others: Any) -> None:
            keeper.after(state.global_step)

    said = study.outputs.logits.astype("float32")
    scores = said[:, positive] - said[:, 1 - positive]
    rows = {"text": list(study.rows.texts), "text_pair": list(study.rows.pairs or []), "label": scores.tolist()}
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(work / "sentence-transformers"),
        max_steps=study.steps,
        per_device_train_batch_size=study.batch_size,
        batch_sampler=lambda *_dataset, **_settings: Batches(study),
        learning_rate=study.rate,
        warmup_ratio=WARMUP,
        bf16=study.run.bf16,
        use_cpu=study.run.device.type == "cpu",
        seed=study.seed,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = CrossEncoderTrainer(
        model=encoder,
        args=arguments,
        train_dataset=Dataset.from_dict(rows),
        loss=MSELoss(encoder),
        callbacks=[Judging()],
    )
    trainer.train()
    return keeper.finish()


def cross_encoder(study: Study, folder: Path) -> Any:
    """The student's start as a `CrossEncoder` of one score, positive − other logit."""
    from sentence_transformers.cross_encoder import CrossEncoder
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    model: Any = copy.deepcopy(study.built.module.model)
    positive = _positive(study)
    score = nn.Linear(model.classifier.in_features, 1)
    with torch.no_grad():
        for name in ("weight", "bias"):
            both = getattr(model.classifier, name)
            getattr(score, name).copy_(both[positive : positive + 1] - both[1 - positive : 2 - positive])
    model.classifier = score
    model.config.num_labels = 1
    model.save_pretrained(folder)
    tokenizer = Tokenizer.from_str(study.built.tokens.tokenizer_json)
    padding = tokenizer.id_to_token(study.built.spec.pad_id)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=padding).save_pretrained(folder)
    return CrossEncoder(
        str(folder),
        num_labels=1,
        max_length=study.built.spec.max_length,
        device=str(study.run.device),
        local_files_only=True,
    )


def _positive(study: Study) -> int:
    """Place of the label that a score of 1 stands for; the second where none is named."""
    positive = study.run.judge.kind.positive
    return 1 if positive is None else study.run.splits.labels.index(positive)


PEERS = {
    "textbrewer": Peer("textbrewer", _needs_labels, textbrewer),
    "torchdistill": Peer("torchdistill", _needs_labels, torchdistill),
    "sentence-transformers": Peer("sentence_transformers", _needs_one_score, sentence_transformers),
    "model2vec": Peer(None, needs_one_labelled_text, model2vec),
}
