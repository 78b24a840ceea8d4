"""Programs that are killed, or run beside others: forks of one process that has the imports.

Importing torch takes longer than what these programs do. The process that forks has no threads:
it imports, and does nothing else.
"""

import json
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.torchrun import ENVIRONMENT, ROOT

# Reads a request from each line: code, its arguments, the environment of each process, a log.
# Answers with a line of process ids, and one of exit statuses when all have ended.
SERVER = """
import json, os, sys, traceback

import timm, torch
import build_image_db, train
from process_data import mips, nns
from retrieval.training import checkpointing, gradient_cache, run_log, trainer, validation

def work(code, arguments, log):
    sys.argv = ["-c", *arguments]
    sys.stdout.flush()
    for number in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), number)
    status = 1
    try:
        exec(code, {"__name__": "__main__"})
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

for line in sys.stdin:
    code, arguments, environments, log = json.loads(line)
    pids = []
    for more in environments:
        pid = os.fork()
        if not pid:
            os.environ.update(more)
            work(code, arguments, log)
        pids.append(pid)
    print(*pids, flush=True)
    print(*(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids), flush=True)
"""


@dataclass
class Forks:
    """A process that forks; one request at a time."""

    process: "subprocess.Popen[str]"

    @classmethod
    def start(cls) -> "Forks":
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        return cls(process)

    def begin(
        self,
        log: Path,
        code: str,
        *arguments: str,
        environments: Sequence[Mapping[str, str]] = ({},),
    ) -> list[int]:
        """Start a program in one process for each environment; return the process ids.

        Args:
            log: What they print is added to this file.
            code: The program.
            arguments: ``sys.argv[1:]``.
            environments: Variables of each process, beside those that all tests have.
        """
        assert self.process.stdin is not None
        log.touch()
        request = [code, arguments, [dict(more) for more in environments], str(log)]
        self.process.stdin.write(json.dumps(request) + "\n")
        return self._numbers()

    def statuses(self) -> list[int]:
        """Wait for the processes that began last; return their exit statuses."""
        return self._numbers()

    def run(self, log: Path, code: str, *arguments: str) -> int:
        """Run a program to its end, and return its exit status."""
        self.begin(log, code, *arguments)
        (status,) = self.statuses()
        return status

    def run_two(self, log: Path, code: str, *arguments: str) -> list[int]:
        """Run a program in two processes that find each other, as torchrun starts them."""
        names = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        names |= {"MASTER_PORT": str(_free_port())}
        ranks = [{**names, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
        self.begin(log, code, *arguments, environments=ranks)
        return self.statuses()

    def end(self) -> None:
        """Let the process end."""
        self.process.communicate(timeout=60)

    def _numbers(self) -> list[int]:
        assert self.process.stdout is not None
        return list(map(int, self.process.stdout.readline().split()))


def is_running(pid: int) -> bool:
    """Return whether a process has not ended."""
    return Path(f"/proc/{pid}").exists()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
