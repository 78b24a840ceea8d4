"""Benchmarks and tests that need a GPU, in one command.

Writes  gpu_encode.csv, gpu_training_speed.csv, gpu_search.csv and gpu.md in --output

    python -m benchmarks.bench_gpu

Without a GPU it writes "Not measured" and exits with status 0.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks import bench_encode, bench_training_speed, processes, results
from benchmarks.bench_mips import write_vectors
from benchmarks.harness import median, once, spread
from retrieval.search.nearest import nearest_neighbors

TABLES = ("gpu_encode", "gpu_training_speed", "gpu_search")
NONE = "Not measured: there was no GPU."


def run_tests() -> subprocess.CompletedProcess[str]:
    """Run the tests marked gpu; return what pytest printed and its status."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "--durations=0"]
    done = subprocess.run(command, cwd=processes.ROOT, capture_output=True, text=True)
    print(done.stdout, flush=True)
    return done


def search(args: argparse.Namespace, record: results.Run) -> None:
    """Time exact search, and the matrix product and top k of vectors resident on the device."""
    device = torch.device("cuda")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = write_vectors(Path(folder) / "database.npy", args.rows, 512, seed=1)
        rows = np.load(path, mmap_mode="r")
        queries = np.load(write_vectors(Path(folder) / "queries.npy", 1000, 512, seed=2))
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
            line = {"method": name, "rows": args.rows, "queries_per_s": rate}
            table.append({**line, "spread_%": spread(seconds)})
    record.publish("gpu_search", table)


def run(args: argparse.Namespace) -> None:
    """Measure if there is a GPU, and write the page."""
    page = args.output / "gpu.md"
    args.output.mkdir(parents=True, exist_ok=True)
    if not torch.cuda.is_available():
        print(NONE)
        if not page.exists():  # keep results of another machine
            page.write_text(f"# On a GPU\n\n{NONE}\n", encoding="utf-8")
        return
    start = time.perf_counter()
    search(args, results.Run("gpu_search", args, args.output))
    common = ["--device=cuda", f"--output={args.output}", f"--seconds={args.seconds}"]
    common += [f"--repeats={args.repeats}", f"--threads={args.threads}"]
    steps = ["--networks", args.network, "--sides", "224", "--batch=256", "--images=4096"]
    steps += ["--compile", "--name=gpu_training_speed"]
    bench_training_speed.run(bench_training_speed.make_parser().parse_args([*common, *steps]))
    encode = ["--networks", args.network, "--batches", "256", "--images=4096", "--name=gpu_encode"]
    bench_encode.run(bench_encode.make_parser().parse_args([*common, *encode]))
    tests = run_tests()
    parts = [f"# On {torch.cuda.get_device_name()}"]
    parts += [results.latest_table(args.output, name) for name in TABLES]
    parts.append(f"Tests marked gpu: {tests.stdout.strip().splitlines()[-1]}")
    parts.append(f"Took {(time.perf_counter() - start) / 60:.1f} minutes.")
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(f"wrote {page}")
    if tests.returncode:
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
