"""Attention relations: how each token's query, key and value stand to those of the other tokens of its row.

MiniLMv2, Wang et al. 2021 (https://arxiv.org/abs/2012.15828). Relations are T×T a row and head, too much to keep on
disk, so the teacher reads each batch beside the student; both see the same tokens. There are as many relation heads as
the teacher has attention heads, and its layer is the one behind the student's last (`student.layer_map`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from compress.errors import RecipeError
from compress.kernels.relation_kd import relation_kd
from compress.students.transformer import find_layers
from compress.teachers.load import ATTENTION
from compress.text_model import TransformerClassifier


class Attention:
    """Queries, keys and values [B, T, H] of one layer (from 1) of a transformer, as its last pass had them.

    Raises:
        RecipeError: the model does not keep them apart.
    """

    def __init__(self, module: TransformerClassifier, layer: int) -> None:
        names = ATTENTION.get(str(module.model.config.model_type), ())
        owner, attribute = find_layers(module.model.base_model, module.layers)
        block = getattr(owner, attribute)[layer - 1]
        parts = [part for name, part in block.named_modules() if name.rpartition(".")[2] in names]
        if len(parts) != 3:
            raise RecipeError(
                f"losses.relations: queries, keys and values of {type(module.model).__name__} are not told apart; "
                "leave it out"
            )
        self.states: dict[int, Tensor] = {}
        self.hooks = [part.register_forward_hook(self._keeper(number)) for number, part in enumerate(parts)]

    def _keeper(self, number: int) -> Any:
        def keep(part: Any, given: Any, result: Tensor) -> None:
            self.states[number] = result

        return keep

    def close(self) -> None:
        """Look no further, and let go of what was seen."""
        for hook in self.hooks:
            hook.remove()
        self.states.clear()


class Relations:
    """The term between a student's last layer and a teacher's layer, for the batch that the student read last.

    It watches the student from its making to `close`.
    """

    def __init__(
        self, student: TransformerClassifier, teacher: TransformerClassifier, layer: int, *, bf16: bool
    ) -> None:
        self.student, self.teacher, self.bf16 = student, teacher.eval(), bf16
        self.heads = int(teacher.model.config.num_attention_heads)
        if student.width % self.heads:
            raise RecipeError(
                f"losses.relations: the teacher's {self.heads} attention heads do not divide student.hidden, which is "
                f"{student.width}: set it to a multiple of {self.heads}"
            )
        self.inputs: dict[str, Tensor] = {}
        self.ours, self.theirs = Attention(student, student.layers), Attention(teacher, layer)
        self.hook = student.register_forward_pre_hook(self._remember)

    def _remember(self, module: Any, inputs: tuple[Tensor, ...]) -> None:
        self.inputs = dict(zip(self.student.input_names, inputs, strict=True))

    def __call__(self) -> Tensor:
        """Sum of the losses of queries, keys and values."""
        mask = self.inputs["attention_mask"]
        self.teacher.to(mask.device)
        with torch.no_grad(), torch.autocast(mask.device.type, torch.bfloat16, enabled=self.bf16):
            self.teacher(*(self.inputs[name] for name in self.teacher.input_names))
        pairs = [(self.ours.states[part], self.theirs.states[part]) for part in self.ours.states]
        return torch.stack([relation_kd(one, other, mask.bool(), self.heads) for one, other in pairs]).sum()

    def close(self) -> None:
        """Stop watching."""
        self.hook.remove()
        self.ours.close()
        self.theirs.close()
