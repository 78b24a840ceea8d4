"""Time until a command answers: help, mistakes, searches on a small sample, the first step.

Reads   a data directory that every stage has run on
Writes  start.csv in --output

    make demo
    python -m benchmarks.pipeline.startup --dpath=demo

Each command runs as a process of its own. Those that run a network take turns with ``import torch,
torchvision``, the time that a program with torch cannot go below. The first step is timed until its
line is in the log.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import results
from benchmarks.measured_process import ROOT
from benchmarks.timing import by_turns, median, spread

IMPORTS = "import torch, torchvision"
STAGES = [
    *(f"-m compcars.{name}" for name in ("data_info", "test_data_info", "sample")),
    *(f"-m process_data.{path.stem}" for path in sorted(ROOT.glob("process_data/[!_]*.py"))),
    "train.py",
    "build_image_db.py",
]
NETWORKS = ("`train.py` to the first step", "`build_image_db.py`")
NETWORK = "--arch=resnet18 --weights=none --dim=64 --batch_size=16"


def seconds_of(command: str, *more: str, status: int = 0) -> float:
    """Run a command that must end with this exit status; return the seconds."""
    arguments = [sys.executable, *command.split(), *more]
    start = time.perf_counter()
    ended = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if ended.returncode != status:
        raise RuntimeError(f"{command} ended with status {ended.returncode}: {ended.stderr}")
    return seconds


def imports() -> float:
    """Return the seconds of a program that imports torch and torchvision and nothing else."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    return time.perf_counter() - start


def first_step(data_dir: Path) -> float:
    """Return the seconds from the start of training to the end of its first step."""
    command = [sys.executable, "train.py", *NETWORK.split(), "--show_batch=1", "--epoch=1"]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command, f"--dpath={data_dir}", f"--save_path={folder}"],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        with process.stderr:
            found = any("step 1 of" in line for line in process.stderr)
            seconds = time.perf_counter() - start
            process.kill()
        process.wait()
    if not found:
        raise RuntimeError("the training never took a step")
    return seconds


def measure(data_dir: Path, save_path: Path, repeats: int) -> list[results.Row]:
    """Time every command.

    Args:
        data_dir: A data directory that every stage has run on.
        save_path: The checkpoint of its database.
        repeats: Runs of each command.
    """
    dpath = f"--dpath={data_dir}"
    model = f"--save_path={save_path}"
    searches = ("mips", "nns", "mask_data", "summary", "contact_sheet")
    calls: dict[str, Callable[[], float]] = {
        **{f"`python {stage} -h`": partial(seconds_of, stage, "-h") for stage in STAGES},
        "`mips`, a missing folder": partial(
            seconds_of, "-m process_data.mips", "--dpath=no/where", status=1
        ),
        "`train.py`, a missing folder": partial(
            seconds_of, "train.py", "--dpath=no/where", model, status=1
        ),
        **{f"`{name}`": partial(seconds_of, f"-m process_data.{name}", dpath) for name in searches},
        "`compare mips-test nns-test`": partial(
            seconds_of, "-m process_data.compare", dpath, "mips-test", "nns-test"
        ),
        NETWORKS[0]: partial(first_step, data_dir),
        NETWORKS[1]: partial(seconds_of, "build_image_db.py", dpath, model),
    }
    rows: list[results.Row] = []
    for name, call in calls.items():
        turns = {"command": call} | ({"imports": imports} if name in NETWORKS else {})
        seconds = by_turns(turns, repeats, warm_up=1)
        middle = median(seconds["command"])
        row: dict[str, object] = {"command": name, "seconds": middle}
        row["spread_%"] = spread(seconds["command"])
        if "imports" in seconds:
            least = median(seconds["imports"])
            row |= {"import_torch_s": least, "ratio": middle / least}
        rows.append(row)
        print(f"{name}: {middle:.2f} s", file=sys.stderr, flush=True)
    return rows


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--dpath", type=Path, default=Path("demo"), help="the data directory of make demo")
    add("--save_path", type=Path, default=Path("demo/para/model.ep4"), help="its checkpoint")
    add("--repeats", type=int, default=3, help="runs of each command")
    results.add_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Time every command and publish the table."""
    record = results.Run("start", args, args.output)
    record.publish("start", measure(args.dpath, args.save_path, args.repeats))


if __name__ == "__main__":
    run(make_parser().parse_args())
