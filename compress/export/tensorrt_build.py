"""One build of an engine: progress, Ctrl-C, and how fast kernels were the last time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from compress import artifacts
from compress.progress import Bar

NOT_TIMED = "none: tensorrt-rtx times no kernels when it builds"


def build(trt: Any, builder: Any, network: Any, config: Any, name: str) -> Any:
    """Build in a thread of its own, so that Ctrl-C reaches this one and stops the build at its next step.

    Args:
        trt, builder, network, config: the package and its objects. name: stands before the progress.

    Returns:
        The serialized engine, or None where the build failed.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the package is only known when it runs
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.cancelled = False
            self.bars: dict[str, Bar] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.bars[phase_name] = Bar(f"{name}: {phase_name.lower()}", num_steps, "steps")

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.bars:
                self.bars[phase_name].advance(1)
            return not self.cancelled

        def phase_finish(self, phase_name: str) -> None:
            if phase_name in self.bars:
                self.bars.pop(phase_name).close()

    monitor = Monitor()
    config.progress_monitor = monitor
    try:
        with ThreadPoolExecutor(1) as pool:  # leaving it waits for the thread, which needs the builder
            pool.submit(int).result()  # an interrupted start would lose the thread: start it before the build
            try:
                future = pool.submit(builder.build_serialized_network, network, config)
                while not future.done():
                    wait([future], timeout=0.2)  # a signal is only seen between two waits
                return future.result()
            except KeyboardInterrupt:
                monitor.cancelled = True
                raise
    finally:
        for shown in list(monitor.bars.values()):
            shown.close()


def load_timings(config: Any, folder: Path | None, version: str) -> bool:
    """Give `tensorrt` what earlier builds in this folder measured; whether there was something that it takes.

    What another GPU measured is refused by TensorRT and made anew.
    """
    if folder is None or _ahead_of_time(config):
        return False
    file = _file(folder, version)
    kept = file.read_bytes() if file.is_file() else b""
    if kept and config.set_timing_cache(config.create_timing_cache(kept), ignore_mismatch=False):
        return True
    config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    return False


def keep_timings(config: Any, folder: Path | None, version: str, found: bool) -> str:
    """Write what `tensorrt` measured for the next build; the sentence for the result."""
    if _ahead_of_time(config):
        return NOT_TIMED
    if folder is None:
        return "none: no folder was given"
    file = _file(folder, version)
    with artifacts.publishing(file) as temporary:
        temporary.write_bytes(bytes(config.get_timing_cache().serialize()))
    return f"{'used and extended' if found else 'begun'}: {file.name}"


def _ahead_of_time(config: Any) -> bool:
    """tensorrt-rtx has these functions, too, which do nothing and say so."""
    return hasattr(config, "set_compute_capability")


def _file(folder: Path, version: str) -> Path:
    return folder / f"tensorrt-{version}.timings"
