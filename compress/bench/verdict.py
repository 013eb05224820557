"""What a run has shown, in sentences: the headline, and the warnings that belong above it."""

from __future__ import annotations

from typing import Any

from compress.bench.markup import number, quality, ratio, significant
from compress.bench.summary import Summary, mapping, measure_of, retention_measure, rows_of, size_ratio
from compress.tasks.measures import Measure

ALARMING = ("simulated", "not worth distilling")
"""What a note says that must not be overlooked."""


def headline(summary: Summary) -> str:
    """The result of the run in one sentence, from what the summary has."""
    retention, speedup = number(summary.get("retention")), number(summary.get("speedup"))
    smaller, gain = size_ratio(summary), number(summary.get("distillation_gain"))
    claims = []
    if retention is not None:
        claims.append(_kept(retention, retention_measure(summary)))
    if speedup is not None:
        claims.append(f"answers {_times(speedup, 'faster', 'slower')}")
    if smaller is not None:
        claims.append(f"is {_times(smaller, 'smaller', 'larger')}")
    first = "The shipped model " + ", ".join(claims) if claims else "not run: the shipped model has no figures yet"
    if gain is None:
        return first + "."
    return f"{first}; distillation {_gained(gain, measure_of(summary))} the same student on hard labels."


def _kept(retention: float, measure: Measure) -> str:
    if measure.higher_is_better:
        return f"keeps {retention:.1%} of the teacher's {measure.name}"
    return f"has {1 / retention:.3g} times the teacher's {measure.name}" if retention else f"loses all {measure.name}"


def _gained(gain: float, measure: Measure) -> str:
    if not measure.in_points:
        return f"{'lowered' if gain >= 0 else 'raised'} {measure.name} by {significant(abs(gain))} against"
    points = f"{abs(gain) * 100:.1f} points"
    return f"gained +{points} over" if gain >= 0 else f"lost {points} against"


def _times(times: float, more: str, less: str) -> str:
    return f"{ratio(times)} {more}" if times >= 1 else f"{ratio(1 / times)} {less}"


def warnings(summary: Summary) -> list[tuple[bool, str]]:
    """Sentences that belong above the figures: (alarm or only a note, sentence)."""
    found: list[tuple[bool, str]] = []
    for gate in rows_of(summary, "gates"):
        if gate.get("passed") is False:
            found.append((True, f"Gate not met: {_gate_sentence(gate)}."))
    for stage in rows_of(summary, "stages"):
        if stage.get("status") == "failed":
            found.append((True, f"Stage {stage.get('stage')} failed: {stage.get('reason') or 'no reason given'}."))
    gain = number(summary.get("distillation_gain"))
    if gain is not None and gain <= 0:
        found.append((True, "Distillation gained nothing: the same student on hard labels alone is as good or better."))
    notes = summary.get("notes")
    said = [str(note) for note in notes] if isinstance(notes, list) else []
    found += [(any(word in note.lower() for word in ALARMING), note) for note in said]
    unsafe = mapping(summary, "device").get("warnings")
    found += [(False, str(sentence)) for sentence in unsafe if sentence not in said] if isinstance(unsafe, list) else []
    return found


def _gate_sentence(gate: dict[str, Any]) -> str:
    value, limit = (number(gate.get(key)) for key in ("value", "limit"))
    return f"{gate.get('gate')} is {gate_value(gate, value)}, the limit is {gate_value(gate, limit)}"


def gate_value(gate: dict[str, Any], value: float | None) -> str:
    """A gate's limit or value with the digits that suit it."""
    if value is None:
        return "not measured"
    return quality(value) if gate.get("gate") == "quality" else significant(value)
