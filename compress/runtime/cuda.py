"""The first NVIDIA GPU through its driver: is it there, what is it, memory on it and copies. No package is needed."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from compress.errors import EnvironmentProblem
from compress.runtime.engine import Array

DRIVER = "libcuda.so.1"
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
"""Numbers of the driver's device attributes."""
NAME_BYTES = 256


@dataclass(frozen=True)
class Gpu:
    """What a GPU is called, and its compute capability, such as sm89."""

    name: str
    capability: str


def problem() -> str | None:
    """Why there is no GPU to compute on, or None where there is one."""
    try:
        driver = load_driver()
    except OSError as error:
        return f"no NVIDIA driver here ({error})"
    count = ctypes.c_int(0)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status == 0 and count.value > 0:
        return None
    return f"no NVIDIA GPU here (CUDA error {status}, {count.value} devices)"


def gpu() -> Gpu:
    """The first GPU.

    Raises:
        EnvironmentProblem: there is none.
    """
    _require()
    driver, device = load_driver(), _first()
    name, numbers = ctypes.create_string_buffer(NAME_BYTES), [ctypes.c_int(0), ctypes.c_int(0)]
    _check(driver.cuDeviceGetName(name, NAME_BYTES, device), "cuDeviceGetName")
    for number, attribute in zip(numbers, (CAPABILITY_MAJOR, CAPABILITY_MINOR), strict=True):
        _check(driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, device), "cuDeviceGetAttribute")
    return Gpu(name.value.decode(), f"sm{numbers[0].value}{numbers[1].value}")


class Device:
    """Memory, copies and one stream on the first GPU, in the context that CUDA's own runtime, hence TensorRT, uses.

    Attributes:
        stream: its address, as TensorRT takes it.

    Raises:
        EnvironmentProblem: there is no GPU, or it fails.
    """

    def __init__(self) -> None:
        _require()
        self._cuda = load_driver()
        self._context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), _first())
        self.use()
        stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(stream), ctypes.c_uint(0))
        self.stream = int(stream.value or 0)

    def use(self) -> None:
        """Make this device the calling thread's."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        """The address of `size` bytes on the device."""
        address = ctypes.c_uint64(0)
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return address.value

    def free(self, address: int) -> None:
        """Give back what `allocate` gave."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def send(self, array: Array, address: int) -> None:
        """Begin to copy a contiguous array to the device."""
        source = ctypes.c_void_p(array.ctypes.data)
        self._call(
            "cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), source, ctypes.c_size_t(array.nbytes), self._stream()
        )

    def fetch(self, address: int, array: Array) -> None:
        """Begin to fill a contiguous array from the device; it is filled after `wait`."""
        target = ctypes.c_void_p(array.ctypes.data)
        self._call(
            "cuMemcpyDtoHAsync_v2", target, ctypes.c_uint64(address), ctypes.c_size_t(array.nbytes), self._stream()
        )

    def wait(self) -> None:
        """Return when all that was begun is done."""
        self._call("cuStreamSynchronize", self._stream())

    def _stream(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.stream)

    def _call(self, name: str, *arguments: Any) -> None:
        _check(getattr(self._cuda, name)(*arguments), name)


def load_driver() -> Any:
    """The driver's library; OSError where there is none."""
    return ctypes.CDLL(DRIVER)


def _require() -> None:
    if (reason := problem()) is not None:
        raise EnvironmentProblem(f"{reason}; run it where an NVIDIA GPU and its driver are")


def _first() -> ctypes.c_int:
    device = ctypes.c_int(0)
    _check(load_driver().cuDeviceGet(ctypes.byref(device), 0), "cuDeviceGet")
    return device


def _check(status: int, name: str) -> None:
    if status:
        raise EnvironmentProblem(
            f"the GPU failed: {name} gave CUDA error {status}; look at `nvidia-smi`, free its memory, and try again"
        )
