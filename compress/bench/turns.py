"""What was taken down of a contender: one turn for each round, and all of them together."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Turn:
    """Raw nanoseconds of one contender in one round.

    calls: latencies. tokenizer: of the same calls, only reading their texts. cpu: processor time. answering: from the
    first call to the last answer. energy: microjoules; None where the machine tells none. spent: all that it took.
    """

    calls: list[int]
    tokenizer: list[int]
    cpu: int
    answering: int
    energy: int | None
    spent: int


@dataclass
class Times:
    """The turns of one contender by the number of their round; a round that is taken again replaces its turns."""

    turns: dict[int, Turn] = field(default_factory=dict)

    @property
    def rounds(self) -> list[list[int]]:
        """Latencies of each round."""
        return [turn.calls for turn in self.turns.values()]

    @property
    def tokenizer(self) -> list[int]:
        """Of all rounds."""
        return [nanoseconds for turn in self.turns.values() for nanoseconds in turn.tokenizer]

    @property
    def cpu(self) -> int:
        """Of all rounds."""
        return sum(turn.cpu for turn in self.turns.values())

    @property
    def answering(self) -> int:
        """Of all rounds."""
        return sum(turn.answering for turn in self.turns.values())

    @property
    def energy(self) -> int | None:
        """Of all rounds; None where the machine did not tell that of each."""
        told = [turn.energy for turn in self.turns.values() if turn.energy is not None]
        return sum(told) if len(told) == len(self.turns) else None

    @property
    def spent(self) -> int:
        """Of all rounds."""
        return sum(turn.spent for turn in self.turns.values())
