"""TensorRT engines (NAME.engine) on the first GPU: `tensorrt` and `tensorrt-rtx`, two packages with one API."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compress.errors import DataError
from compress.extras import available, install_hint, require, version
from compress.runtime import cuda
from compress.runtime.engine import Array, Tensor
from compress.runtime.plan import Builder, read_plan

PACKAGES: dict[Builder, str] = {"tensorrt-rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}


def problem(path: Path, builder: Builder) -> str | None:
    """Why an engine cannot be run on this machine, or None where it can be tried; nothing of it is loaded.

    Raises:
        IntegrityError: the file is no engine.
    """
    plan = read_plan(path)
    if plan.builder != builder:
        return f"{path.name} is an engine of {plan.builder}, which {builder} does not read"
    if not available(PACKAGES[builder]):
        return f"{builder} is not installed: {install_hint(builder)}"
    installed = version(builder)
    if plan.version not in (None, installed):
        return f"{path.name} was built by {builder} {plan.version}, installed is {installed}: build it again"
    if (reason := cuda.problem()) is not None:
        return reason
    here = cuda.gpu()
    if plan.gpus and here.capability not in plan.gpus:
        return (
            f"{path.name} was built for {', '.join(plan.gpus)}, this GPU ({here.name}) is {here.capability}: build it "
            "for that"
        )
    return None


class TensorRtEngine:
    """An engine with one execution context; see compress.runtime.engine.Engine. Threads that ask wait for each other.

    A call copies the inputs to the device, computes, copies the outputs back and waits for them.

    Raises:
        DataError: it cannot be run here, or TensorRT does not load it; says why.
        IntegrityError: the file is no engine.
        EnvironmentProblem: the GPU fails.
    """

    outputs: tuple[Tensor, ...]

    def __init__(self, path: Path, builder: Builder, threads: int) -> None:
        if (reason := problem(path, builder)) is not None:
            raise DataError(reason)
        self.runtime: str = builder
        self.threads, self._path = threads, path
        self._trt = require(PACKAGES[builder], extra=builder, why=f"running {path.name}")
        self._log = _logger(self._trt)
        self._log.errors.clear()
        self._device = cuda.Device()
        self._runtime = self._trt.Runtime(self._log)  # must outlive its engines
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        self._context: Any = None if self._engine is None else self._engine.create_execution_context()
        if self._context is None:
            raise DataError(f"{builder} does not load {path.name} ({self._log.first()}); build it on this machine")
        tensors = [self._tensor(self._engine.get_tensor_name(place)) for place in range(self._engine.num_io_tensors)]
        inputs = {tensor.name for tensor in tensors if self._is_input(tensor.name)}
        self.inputs = tuple(tensor for tensor in tensors if tensor.name in inputs)
        self.outputs = tuple(tensor for tensor in tensors if tensor.name not in inputs)
        self._buffers: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def run(self, feed: Mapping[str, Array], names: Sequence[str] | None = None) -> list[Array]:
        """The named outputs, or all, for these inputs.

        Raises:
            DataError: the inputs are larger than the engine was built for.
        """
        with self._lock:
            self._device.use()
            sent = [self._send(tensor, feed[tensor.name]) for tensor in self.inputs]
            found = {tensor.name: self._room(tensor) for tensor in self.outputs}
            if not self._context.execute_async_v3(self._device.stream):
                raise DataError(f"{self._path.name} was not computed ({self._log.first()})")
            for name, array in found.items():
                self._device.fetch(self._buffers[name][0], array)
            self._device.wait()
            del sent  # the device has read them
        return [found[name] for name in names or found]

    def _send(self, tensor: Tensor, values: Array) -> Array:
        array = np.ascontiguousarray(values, tensor.dtype)
        if not self._context.set_input_shape(tensor.name, array.shape):
            raise DataError(
                f"{self._path.name} does not take {tensor.name} of {list(array.shape)} ({self._log.first()}): build it "
                "with a larger --max-batch or --max-length, or ask less"
            )
        self._device.send(array, self._buffer(tensor.name, array.nbytes))
        return array

    def _room(self, tensor: Tensor) -> Array:
        """An array for an output, of the shape that the inputs give it."""
        array = np.empty(tuple(self._context.get_tensor_shape(tensor.name)), tensor.dtype)
        self._buffer(tensor.name, array.nbytes)
        return array

    def _buffer(self, name: str, size: int) -> int:
        """Where a tensor stands on the device; memory is kept from call to call and grows with the largest."""
        address, there = self._buffers.get(name, (0, 0))
        if size > there or not address:
            if address:
                self._device.free(address)
            address = self._device.allocate(max(size, 1))
            self._buffers[name] = address, size
            self._context.set_tensor_address(name, address)
        return address

    def _is_input(self, name: str) -> bool:
        return bool(self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT)

    def _tensor(self, name: str) -> Tensor:
        kind = self._engine.get_tensor_dtype(name)
        try:
            dtype = np.dtype(self._trt.nptype(kind)).name
        except TypeError as error:
            raise DataError(f"{self._path.name} has {name} in {kind}, which numpy does not have") from error
        shape = tuple("?" if size < 0 else int(size) for size in self._engine.get_tensor_shape(name))
        return Tensor(name, dtype, shape)


@functools.cache
def _logger(trt: Any) -> Any:
    """The one logger of this process, which keeps what went wrong: a call that fails says only that it did."""

    class Log(trt.ILogger):  # type: ignore[misc]  # the package is only known when it runs
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(" ".join(message.split()))

        def first(self) -> str:
            return self.errors[0] if self.errors else "no reason given"

    return Log()
