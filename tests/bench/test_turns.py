"""All turns of one contender together."""

from __future__ import annotations

from compress.bench.turns import Times, Turn


def turn(energy: int | None) -> Turn:
    return Turn(calls=[3, 5], tokenizer=[1, 1], cpu=6, answering=8, energy=energy, spent=10)


def test_energy_is_that_of_all_rounds_or_none() -> None:
    """Else it would be divided by requests that it was not measured of."""
    assert Times({0: turn(7), 1: turn(8)}).energy == 15
    assert Times({0: turn(7), 1: turn(None)}).energy is None


def test_a_round_that_is_taken_again_replaces_its_turn() -> None:
    times = Times({0: turn(7), 1: turn(8)})
    times.turns[0] = turn(9)
    assert (times.energy, times.cpu, times.answering, times.spent) == (17, 12, 16, 20)
    assert times.rounds == [[3, 5], [3, 5]]
