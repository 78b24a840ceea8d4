"""Run commands and functions in fresh, pinned processes, and sample their memory.

A fresh process holds no memory of an earlier measurement. ``run`` measures a command, ``call`` a
function of a benchmark; its arguments and result must be JSON values.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
INTERVAL = 0.02  # seconds between memory samples
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VIPS_CONCURRENCY",
)


@dataclass(frozen=True)
class Usage:
    """Resources used by a process and all its descendants.

    Attributes:
        seconds: Wall-clock time, including interpreter startup.
        cpu_seconds: Processor time on all cores; 0 if the system does not report it.
        peak_bytes: Largest sampled sum of private memory, including interpreter and libraries,
            but not pages of memory-mapped files, which the system can reclaim at any time.
        output: Text written to stdout and stderr.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str


def cores() -> int:
    """Return the number of cores available to this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run(command: Sequence[str], threads: int, folder: Path = ROOT) -> Usage:
    """Run a command, pinned to the first ``threads`` cores.

    Raises:
        RuntimeError: The command failed; the message has the last lines of its output.
    """
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    with tempfile.TemporaryFile("w+") as output:
        before = os.times()
        start = time.perf_counter()
        process = psutil.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _pin(process, threads)
        watch = _Watch(process)
        status = process.wait()
        seconds = time.perf_counter() - start
        peak = watch.end()
        after = os.times()
        output.seek(0)
        text = output.read()
    if status:
        tail = "\n".join(text.splitlines()[-20:])
        raise RuntimeError(f"{' '.join(command)} ended with status {status}:\n{tail}")
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    return Usage(seconds, used, peak, text)


def call(function: Callable[..., Any], threads: int, /, **arguments: Any) -> tuple[Any, Usage]:
    """Call a function of a ``benchmarks`` module in a new process; return its result and usage."""
    module = function.__module__
    if module == "__main__":
        module = sys.modules["__main__"].__spec__.name  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory() as folder:
        request, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        task = {"module": module, "function": function.__name__, "arguments": arguments}
        request.write_text(json.dumps(task))
        command = [sys.executable, "-m", "benchmarks.measured_process", str(request), str(answer)]
        usage = run(command, threads)
        return json.loads(answer.read_text()), usage


def _pin(process: psutil.Popen, threads: int) -> None:
    """Pin a newly started process and its future children to the first cores."""
    if hasattr(process, "cpu_affinity"):
        process.cpu_affinity(sorted(psutil.Process().cpu_affinity())[:threads])


class _Watch:
    """Samples the memory of a process and its descendants until ``end``."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._peak = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._is_over.wait(INTERVAL):
            self._peak = max(self._peak, tree_bytes(self._process))

    def end(self) -> int:
        self._is_over.set()
        self._thread.join()
        return self._peak


def tree_bytes(process: psutil.Process) -> int:
    """Return the private memory of a process and its descendants in bytes; 0 if it has ended."""
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for member in family:
        try:
            memory = member.memory_info()
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        total += memory.rss - getattr(memory, "shared", 0)
    return total


def main(argv: Sequence[str]) -> int:
    """Call the function named in the request file; write its result to the answer file."""
    request, answer = map(Path, argv)
    task = json.loads(request.read_text())
    function = getattr(importlib.import_module(task["module"]), task["function"])
    answer.write_text(json.dumps(function(**task["arguments"])))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
