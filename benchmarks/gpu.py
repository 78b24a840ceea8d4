"""Benchmarks and tests that need a GPU, in one command.

Writes  gpu_encode.csv, gpu_training_speed.csv and gpu_search.csv in --output

    python -m benchmarks.gpu

Without a GPU it says so and exits with status 0.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks import measured_process, results
from benchmarks.encode import runtimes
from benchmarks.search.exact import write_vectors
from benchmarks.timing import median, once, spread
from benchmarks.train import speed
from retrieval.search.exact import nearest_neighbors


def run_tests() -> subprocess.CompletedProcess[str]:
    """Run the tests marked gpu; return what pytest printed and its status."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "--durations=0"]
    done = subprocess.run(command, cwd=measured_process.ROOT, capture_output=True, text=True)
    print(done.stdout, flush=True)
    return done


def search(args: argparse.Namespace, record: results.Run) -> None:
    """Time exact search, and the matrix product and top k of vectors resident on the device."""
    device = torch.device("cuda")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        rows, queries = write_vectors(Path(folder), args.rows, 1000, 512)
        resident = torch.from_numpy(np.array(rows)).to(device)
        on_device = torch.from_numpy(queries).to(device)

        def all_resident() -> None:
            (on_device @ resident.T).topk(20)
            torch.cuda.synchronize(device)

        calls = {
            "mips, database in a file": lambda: nearest_neighbors(queries, rows, 20, device="cuda"),
            "products and topk, all on the GPU": all_resident,
        }
        table: list[results.Row] = []
        for name, call in calls.items():
            once(call)
            seconds = [once(call) for _ in range(3)]
            rate = len(queries) / median(seconds)
            line = {
                "device": torch.cuda.get_device_name(),
                "method": name,
                "rows": args.rows,
                "queries_per_s": rate,
            }
            table.append({**line, "spread_%": spread(seconds)})
    record.publish("gpu_search", table)


def run(args: argparse.Namespace) -> None:
    """Measure search, training and encoding, then run the tests, if there is a GPU."""
    if not torch.cuda.is_available():
        print("Not measured: there is no GPU.")
        return
    search(args, results.Run("gpu_search", args, args.output))
    common = ["--device=cuda", f"--output={args.output}", f"--seconds={args.seconds}"]
    common += [f"--repeats={args.repeats}", f"--threads={args.threads}"]
    steps = ["--networks", args.network, "--sides", "224", "--batch=256", "--images=4096"]
    steps += ["--compile", "--name=gpu_training_speed"]
    speed.run(speed.make_parser().parse_args([*common, *steps]))
    encode = ["--networks", args.network, "--batches", "256", "--images=4096", "--name=gpu_encode"]
    runtimes.run(runtimes.make_parser().parse_args([*common, *encode]))
    if run_tests().returncode:
        sys.exit("the tests marked gpu fail; see above")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--network", default="resnet50", help="backbone")
    parser.add_argument("--rows", type=int, default=500_000, help="database rows of the search")
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds per measurement")
    parser.add_argument("--repeats", type=int, default=2, help="measurements per variant")
    parser.add_argument("--folder", type=Path, help="parent of the temporary folder")
    results.add_arguments(parser)
    return parser


if __name__ == "__main__":
    run(make_parser().parse_args())
