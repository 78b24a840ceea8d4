"""Programs in several processes, as torchrun starts them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def command(*arguments: str, processes: int = 2) -> list[str]:
    """Return the command that runs a program in several processes."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*torchrun, f"--nproc_per_node={processes}", *arguments]


def run(*arguments: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """Run a program in several processes, from the root of the repository, to its end."""
    return subprocess.run(
        command(*arguments, processes=processes),
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=900,
    )


def start(log: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start a program in two processes; what it says goes to a file."""
    with log.open("wb") as file:
        return subprocess.Popen(
            command(*arguments), cwd=ROOT, env=ENVIRONMENT, stdout=file, stderr=file
        )


def workers(process: "subprocess.Popen[bytes]") -> list[int]:
    """Return the process ids of the workers, in the order of their ranks."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ranks = {}
    for pid in children:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        ranks.update({int(v[5:]): int(pid) for v in environment if v.startswith(b"RANK=")})
    return [ranks[rank] for rank in sorted(ranks)]
