"""What a student can be, told by the recipe and the teacher alone: its layer map, its answers. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from compress.errors import RecipeError
from compress.recipe import Student


def spread(student_layers: int, teacher_layers: int) -> tuple[int, ...]:
    """Evenly spread teacher layers, the last one included: 3 of 6 -> (2, 4, 6)."""
    return tuple(max(1, round((i + 1) * teacher_layers / student_layers)) for i in range(student_layers))


def layer_map_of(section: Student, teacher_layers: int | None) -> tuple[int, ...]:
    """The layer map of a recipe; () without a teacher model.

    Raises:
        RecipeError: a layer that the teacher does not have.
    """
    if teacher_layers is None:
        return ()
    if section.layer_map is None:
        if section.cuts_layers and section.depth > teacher_layers:
            raise RecipeError(
                f"student.layers is {section.depth}, but the teacher has only {teacher_layers} to cut from; "
                "set fewer, or init: random"
            )
        return spread(section.depth, teacher_layers)
    too_high = [layer for layer in section.layer_map if layer > teacher_layers]
    if too_high:
        raise RecipeError(f"student.layer_map names layer {too_high[0]}, but the teacher has {teacher_layers} layers")
    return tuple(section.layer_map)


def check_two_tower(labels: Sequence[str], *, two_texts: bool) -> None:
    """A cosine needs two texts, and is one number.

    Raises:
        RecipeError: there is one text, or there are more than two labels.
    """
    if not two_texts:
        raise RecipeError("student.kind: two-tower compares two texts, and the data have one; take another student")
    if len(labels) > 2:
        raise RecipeError(
            f"student.kind: two-tower answers with one number, which tells two labels apart, and the data have "
            f"{len(labels)}; take another student, or task.kind: ranking or regression"
        )
