"""A GPU that is this machine's memory: the driver and TensorRT's runtime as far as running an engine needs them."""

from __future__ import annotations

import ctypes
import struct
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

NUMPY_TYPES = {"int64": np.int64, "float": np.float32}
STREAM = 77


class FakeDriver:
    """libcuda: what is fetched is there only after the stream was waited for."""

    def __init__(self, capability: tuple[int, int] = (8, 9), devices: int = 1) -> None:
        self.capability, self.devices = capability, devices
        self.memory: dict[int, Any] = {}
        self.pending: list[tuple[int, int, int]] = []
        self.said: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        if not name.startswith("cu"):
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            self.said.append(name)
            found: int = getattr(self, f"_{name}", lambda *_: 0)(*arguments)
            return found

        return call

    def _cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self.devices
        return 0

    def _cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        name.value = b"Fake L4"
        return 0

    def _cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        value._obj.value = self.capability[attribute - 75]
        return 0

    def _cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:
        context._obj.value = 1
        return 0

    def _cuStreamCreate(self, stream: Any, flags: Any) -> int:
        stream._obj.value = STREAM
        return 0

    def _cuMemAlloc_v2(self, address: Any, size: Any) -> int:
        room = ctypes.create_string_buffer(size.value)
        address._obj.value = ctypes.addressof(room)
        self.memory[address._obj.value] = room
        return 0

    def _cuMemFree_v2(self, address: Any) -> int:
        del self.memory[address.value]
        return 0

    def _cuMemcpyHtoDAsync_v2(self, target: Any, source: Any, size: Any, stream: Any) -> int:
        assert size.value <= len(self.memory[target.value])
        assert stream.value == STREAM
        ctypes.memmove(target.value, source.value, size.value)
        return 0

    def _cuMemcpyDtoHAsync_v2(self, target: Any, source: Any, size: Any, stream: Any) -> int:
        self.pending.append((target.value, source.value, size.value))
        return 0

    def _cuStreamSynchronize(self, stream: Any) -> int:
        for target, source, size in self.pending:
            ctypes.memmove(target, source, size)
        self.pending.clear()
        return 0


def engine_bytes(*, magic: bytes = b"vtrt", version: Sequence[int] = (1, 7, 1, 116), mask: int = 8) -> bytes:
    """A header as tensorrt-rtx writes it, and some bytes more."""
    return magic + bytes(12) + struct.pack("<Q", 80) + bytes(version) + bytes(4) + bytes([mask]) + bytes(47)


def fake_tensorrt(model: Path, *, rows: int = 8, length: int = 12, loads: bool = True) -> Any:
    """A module like tensorrt: its engines compute what an ONNX model does, up to so many rows and tokens."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    inputs = {item.name: "int64" for item in session.get_inputs()}
    outputs = {item.name: "float" for item in session.get_outputs()}
    kinds = inputs | outputs

    class ILogger:
        ERROR, INTERNAL_ERROR = "ERROR", "INTERNAL_ERROR"

        def log(self, severity: str, message: str) -> None:
            raise NotImplementedError

    class Context:
        def __init__(self) -> None:
            self.shapes: dict[str, tuple[int, ...]] = {}
            self.addresses: dict[str, int] = {}

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            self.shapes[name] = shape
            return shape[0] <= rows and shape[1] <= length

        def set_tensor_address(self, name: str, address: int) -> None:
            self.addresses[name] = address

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return (next(iter(self.shapes.values()))[0], session.get_outputs()[0].shape[1])

        def execute_async_v3(self, stream: int) -> bool:
            assert stream == STREAM
            feed = {name: self._read(name, self.shapes[name]) for name in inputs}
            for name, values in zip(outputs, session.run(None, feed), strict=True):
                ctypes.memmove(self.addresses[name], values.ctypes.data, values.nbytes)
            return True

        def _read(self, name: str, shape: tuple[int, ...]) -> Any:
            values = np.empty(shape, np.int64)
            ctypes.memmove(values.ctypes.data, self.addresses[name], values.nbytes)
            return values

    class Engine:
        num_io_tensors = len(kinds)

        def get_tensor_name(self, place: int) -> str:
            return list(kinds)[place]

        def get_tensor_mode(self, name: str) -> str:
            return "INPUT" if name in inputs else "OUTPUT"

        def get_tensor_dtype(self, name: str) -> str:
            return kinds[name]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return (-1, -1) if name in inputs else (-1, 3)

        def create_execution_context(self) -> Context:
            return Context()

    class Runtime:
        def __init__(self, log: Any) -> None:
            self.log = log

        def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
            if loads:
                return Engine()
            self.log.log(ILogger.ERROR, "expecting compute 8.9\n got compute 8.6, please rebuild")
            return None

    def nptype(kind: str) -> Any:
        if kind not in NUMPY_TYPES:
            raise TypeError(kind)
        return NUMPY_TYPES[kind]

    module = types.ModuleType("tensorrt")
    vars(module).update(
        ILogger=ILogger, Runtime=Runtime, nptype=nptype, TensorIOMode=types.SimpleNamespace(INPUT="INPUT")
    )
    return module
