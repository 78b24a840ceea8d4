"""Run a stage in a forked child, bounded in time and memory, and say how it ended.

The parent has imported what is slow to import, so a run takes what the stage itself takes.
"""

import importlib
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.faults.stages import Command

ROOT = str(Path(__file__).resolve().parents[2])
SECONDS = 30.0
PEAK_MB = 2048
HARD_MB = 4096  # more address space than the parent has: the machine is safe
BUG = 70  # exit status of a child that ended with a traceback


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: Exit status; minus the signal that ended it.
        out: What it printed.
        err: Its messages.
        seconds: Wall clock.
        peak_mb: The most memory that it held.
    """

    status: int
    out: str
    err: str
    seconds: float
    peak_mb: int

    @property
    def error_lines(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("error: ")]

    @property
    def is_refusal(self) -> bool:
        """Whether the run ended with one line that says what is wrong, or with wrong usage."""
        if self.status == 2:  # argparse
            return "Traceback" not in self.err
        return self.status == 1 and len(self.error_lines) == 1 and "Traceback" not in self.err

    def _place(self) -> str:
        """Return the last line of our code in a traceback."""
        frames = re.findall(r'File "(.+?)", line (\d+), in (\S+)', self.err)
        ours = [frame for frame in frames if frame[0].startswith(ROOT) and "tests" not in frame[0]]
        return ":".join(ours[-1]).removeprefix(f"{ROOT}/") if ours else "outside our code"

    def fault(self) -> str:
        """Say which promise the run broke whatever it was asked to do; empty if none."""
        if self.status == -signal.SIGALRM:
            return f"ran longer than {SECONDS:.0f} s"
        if self.peak_mb > PEAK_MB:
            return f"took {self.peak_mb} MB"
        if self.status < 0:
            return f"ended by {signal.Signals(-self.status).name}"
        if "Traceback" in self.err:
            return f"traceback: {self.err.strip().splitlines()[-1][:300]} ({self._place()})"
        if self.status not in (0, 130) and not self.is_refusal:
            return f"exit {self.status} without one line of error: {self.err[-300:]!r}"
        if any(len(line) > 2000 for line in self.error_lines):
            return f"an error of {max(map(len, self.error_lines))} characters"
        return ""


def start(
    command: Command,
    folder: Path,
    seconds: float = SECONDS,
    hook: Callable[[], None] | None = None,
    name: str = "run",
) -> int:
    """Fork a child that runs a command in ``folder``; return its process id.

    Args:
        command: What to run.
        folder: Its working directory and home.
        seconds: SIGALRM ends it then.
        hook: Called in the child first.
        name: Of the files with its output, beside ``folder``.
    """
    module = importlib.import_module(command.module)
    pid = os.fork()
    if pid:
        return pid
    status = BUG
    try:
        os.setsid()
        _redirect(folder, name)
        os.chdir(folder)
        os.environ["HOME"] = str(folder)
        _limit(seconds)
        if hook is not None:
            hook()
        status = module.main(command.argv)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


def run(
    command: Command, folder: Path, seconds: float = SECONDS, hook: Callable[[], None] | None = None
) -> Outcome:
    """Run a command in a child and wait for it."""
    begin = time.monotonic()
    return wait(start(command, folder, seconds, hook), folder, begin)


def wait(pid: int, folder: Path, begin: float, name: str = "run") -> Outcome:
    """Wait for a child, end what it left running, and return how it ended."""
    _, raw, usage = os.wait4(pid, 0)
    end_group(pid)
    out, err = (_text(_beside(folder, f"{name}.{kind}")) for kind in ("out", "err"))
    status = os.waitstatus_to_exitcode(raw)
    return Outcome(status, out, err, time.monotonic() - begin, usage.ru_maxrss // 1024)


def end_group(pid: int) -> None:
    """Kill a child and the processes that it started."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _beside(folder: Path, name: str) -> Path:
    return folder.with_name(f"{folder.name}.{name}")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="backslashreplace")


def _redirect(folder: Path, name: str) -> None:
    for number, kind in ((1, "out"), (2, "err")):
        file = os.open(_beside(folder, f"{name}.{kind}"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


def _limit(seconds: float) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    space = pages * resource.getpagesize() + HARD_MB * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
