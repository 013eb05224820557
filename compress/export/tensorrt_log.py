"""What TensorRT says while it builds: its complaints in order, and what stands in the finished engine."""

from __future__ import annotations

import functools
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from compress.progress import reporter

LAYERS, TENSORS = "Layers:", "I/O Tensors:"
"""With detailed profiling one message lists all layers, then inputs and outputs."""
CONSTANTS = re.compile(r"Constants: \[(.*?)\], Outputs: ")
DATATYPE = re.compile(r"Datatype: (\w+)")
TENSOR = re.compile(
    r"Name: (?P<name>.+?), IOMode: (?P<mode>\w+), DataType: (?P<type>\w+), Dimensions: \[(?P<size>.*?)\]"
)
SHAPES = re.compile(r"MinShape: \[(.*?)\], OptShape: \[(.*?)\], MaxShape: \[(.*?)\]")


@dataclass(frozen=True)
class Told:
    """An engine by its builder's account.

    inputs: name -> min, opt and max of its profile. outputs: name -> "type [sizes]". weights: type -> how many tensors.
    """

    inputs: dict[str, dict[str, list[int]]]
    outputs: dict[str, str]
    weights: dict[str, int]


@functools.cache
def logger(trt: Any) -> Any:
    """The one logger of this process; TensorRT ignores a second one while a builder lives."""

    class Log(trt.ILogger):  # type: ignore[misc]  # the package is only known when it runs
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.clear()

        def clear(self) -> None:
            self.messages: list[tuple[Any, str]] = []
            self.layers: str | None = None

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.VERBOSE, trt.ILogger.INFO):
                if message.startswith(LAYERS):
                    self.layers = message
                return
            self.messages.append((severity, message))
            reporter.detail(f"  tensorrt: {message}")

        def first_error(self) -> str | None:
            errors = (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR)
            return next((message for severity, message in self.messages if severity in errors), None)

        def containing(self, text: str) -> str | None:
            return next((message for _, message in self.messages if text in message), None)

        def told(self) -> Told | None:
            return None if self.layers is None else read_layers(self.layers)

    return Log()


def read_layers(message: str) -> Told:
    """The message that lists layers and tensors, read."""
    layers, _, tensors = message.partition(TENSORS)
    weights = Counter(kind for constants in CONSTANTS.findall(layers) for kind in DATATYPE.findall(constants))
    inputs: dict[str, dict[str, list[int]]] = {}
    outputs: dict[str, str] = {}
    for line in tensors.splitlines():
        if (tensor := TENSOR.search(line)) is None:
            continue
        if tensor["mode"] != "Input":
            outputs[tensor["name"]] = f"{tensor['type'].lower()} [{tensor['size'].replace(',', ', ')}]"
            continue
        shapes = SHAPES.search(line)
        given = shapes.groups() if shapes is not None else (tensor["size"],) * 3  # a fixed shape needs no profile
        inputs[tensor["name"]] = {name: _sizes(text) for name, text in zip(("min", "opt", "max"), given, strict=True)}
    return Told(inputs, outputs, dict(weights.most_common()))


def short(reason: str) -> str:
    """The first two lines of a message, without the source files that it names."""
    return ": ".join(line.split(" In ")[0].rstrip(" .") for line in reason.strip().splitlines()[:2])


def _sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",")]
