"""Run something in processes of its own, on so many cores, and watch the memory of all of them.

A fresh process has no memory that an earlier measurement left behind. So every benchmark measures
there: a command (``run``), or a function of a benchmark (``call``), which gets and returns what
JSON can hold.
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
INTERVAL = 0.02  # seconds between two looks at the memory
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VIPS_CONCURRENCY",
)


@dataclass(frozen=True)
class Usage:
    """What a process and all its descendants used.

    Attributes:
        seconds: By the wall clock, the start of the interpreter included.
        cpu_seconds: Of all cores; 0 where the system does not tell.
        peak_bytes: The largest sum of the private memory seen, interpreter and libraries
            included; without the pages of memory-mapped files, which the system takes back at will.
        output: What it wrote to stdout and stderr.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run(command: Sequence[str], threads: int, folder: Path = ROOT) -> Usage:
    """Run a command, pinned to the first ``threads`` cores.

    Raises:
        RuntimeError: It failed; the message has its last lines.
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
    """Return what a function of a module of ``benchmarks`` returns, called in a new process."""
    module = function.__module__
    if module == "__main__":
        module = sys.modules["__main__"].__spec__.name  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory() as folder:
        request, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        task = {"module": module, "function": function.__name__, "arguments": arguments}
        request.write_text(json.dumps(task))
        command = [sys.executable, "-m", "benchmarks.processes", str(request), str(answer)]
        usage = run(command, threads)
        return json.loads(answer.read_text()), usage


def _pin(process: psutil.Popen, threads: int) -> None:
    """Keep a process that has just started, and what it will start, on the first cores."""
    if hasattr(process, "cpu_affinity"):
        process.cpu_affinity(sorted(psutil.Process().cpu_affinity())[:threads])


class _Watch:
    """Looks at the memory of a process and its descendants until it is told to end."""

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
    """Return the private memory of a process and its descendants, now; 0 when they are gone."""
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
    """Call the function that a file asks for, and write what it returns to another file."""
    request, answer = map(Path, argv)
    task = json.loads(request.read_text())
    function = getattr(importlib.import_module(task["module"]), task["function"])
    answer.write_text(json.dumps(function(**task["arguments"])))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
