"""What a student can be, told by the recipe and the teacher alone: its layer map, its answers. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from compress.errors import RecipeError
from compress.recipe import LayeredStudent, Student, TransformerStudent, TwoTowerStudent

DEFAULT_WIDTH = 384
"""Of a transformer without a teacher model to take it from."""
HEAD_SIZE = 32


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


def check_towers_origin(section: TwoTowerStudent, model: str) -> None:
    """Towers are a BERT's layers, which take positions and attention as they are given.

    Args:
        model: what the teacher is, as messages name it; "bert" for what can be cut.

    Raises:
        RecipeError: they are to be cut from another teacher.
    """
    if section.cuts_layers and model != "bert":
        raise RecipeError(
            f"student.kind: two-tower is cut from BERT teachers only, this one is {model}; set student.init: random"
        )


def head_count(section: LayeredStudent, width: int) -> int:
    """Attention heads of a BERT that is built anew.

    Raises:
        RecipeError: they do not divide its width.
    """
    heads = section.heads or max(1, width // HEAD_SIZE)
    if width % heads:
        raise RecipeError(f"student.hidden is {width}, which {heads} heads (student.heads) do not divide")
    return heads


def check_factored(section: LayeredStudent, width: int) -> None:
    """Factors of token embeddings must be narrower than what they make.

    Raises:
        RecipeError: they are not.
    """
    size = section.embedding_size if isinstance(section, TransformerStudent) else None
    if size is not None and size >= width:
        raise RecipeError(
            f"student.embedding_size is {size}, but a whole embedding has {width} numbers; set fewer, or leave it out"
        )


Sizes = tuple[int | None, int | None, int | None]
"""Width, attention heads and width of the feed-forward layer of a transformer; None for what it does not have."""


def is_narrower(section: LayeredStudent, teacher: Sizes) -> bool:
    """Whether a student asks for other sizes than those of the teacher's layers."""
    asked = (section.hidden, section.heads, section.intermediate)
    return any(size is not None and size != has for size, has in zip(asked, teacher, strict=True))


def check_narrow(section: LayeredStudent, teacher: Sizes, *, model: str) -> None:
    """Whether layers cut from a teacher can be made so narrow: a BERT's, heads kept whole.

    Args:
        teacher: its sizes.
        model: what it is, as messages name it; "bert" for what can be narrowed.

    Raises:
        RecipeError: they cannot.
    """
    if not is_narrower(section, teacher):
        return
    width, heads, intermediate = teacher
    if model != "bert" or not width or not heads or not intermediate:
        raise RecipeError(
            f"student.hidden, heads and intermediate make BERT teachers narrower, this one is {model}; leave them out, "
            "or set student.init: random"
        )
    hidden, size = section.hidden or width, width // heads
    if hidden > width or hidden % size:
        raise RecipeError(
            f"student.hidden is {hidden}; heads of the teacher are kept whole, so it must be a multiple of their size, "
            f"{size}, and at most {width}; or set student.init: random"
        )
    if section.heads not in (None, hidden // size):
        raise RecipeError(
            f"student.heads is {section.heads}, but {hidden // size} heads of the teacher's size, {size}, make a width "
            f"of {hidden}; leave it out, or set student.init: random"
        )
    if section.intermediate is not None and section.intermediate > intermediate:
        raise RecipeError(
            f"student.intermediate is {section.intermediate}, but the teacher has {intermediate} to choose from; set "
            "fewer, or student.init: random"
        )
