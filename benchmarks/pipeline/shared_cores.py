"""Throughput of the stages while another program keeps a core busy.

Writes  busy.csv in --output

    make demo
    python -m benchmarks.pipeline.shared_cores --dpath=demo
    git worktree add /tmp/before COMMIT
    python -m benchmarks.pipeline.shared_cores --before=/tmp/before

Each command runs in a process of its own for a few seconds after its first piece of work: with
the machine to itself, and beside a busy loop; as typed, and with --threads=1, whose rate with the
machine to itself is that of one free core.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import results
from benchmarks.measured_process import ROOT
from benchmarks.pipeline import many_rows
from retrieval.data import layout

# Runs a command, and notes when each call of one of its functions began and ended.
PROGRAM = """
import importlib, json, os, runpy, sys, time

cores, seconds, watched, report, name, *sys.argv[1:] = sys.argv[1:]
os.sched_setaffinity(0, json.loads(cores))
try:
    from retrieval.threads import prepare_command
except ImportError:
    pass  # an older version
else:
    prepare_command()
module, _, path = watched.partition(":")
*owners, function = path.split(".")
owner = importlib.import_module(module)
for part in owners:
    owner = getattr(owner, part)
call, spans = getattr(owner, function), []

def timed(*arguments, **options):
    begin = time.perf_counter()
    try:
        return call(*arguments, **options)
    finally:
        spans.append((begin, time.perf_counter()))
        if spans[-1][1] - spans[0][1] > float(seconds):
            end(0)

def end(status):
    with open(report, "w") as file:
        json.dump(spans, file)
    os._exit(status)

setattr(owner, function, timed)
try:
    runpy.run_module(name, run_name="__main__", alter_sys=True)
except SystemExit as exit:
    end(exit.code)
"""
BUSY = "while True: pass"
ENVIRONMENT = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY")
ONE = "--threads=1"


@dataclass(frozen=True)
class Watched:
    """A command, and the function whose calls are its work.

    Attributes:
        name: The stage.
        arguments: Module and options, without --dpath.
        function: ``module:function``.
        unit: Unit of the work.
        work: How much of it a call does.
        rows: Whether it takes random embeddings rather than the images.
    """

    name: str
    arguments: str
    function: str
    unit: str
    work: float
    rows: bool = False


def watched(model: Path, photos: Path, n_pair: int) -> list[Watched]:
    """Return the commands to measure."""
    train = "train --save_path=DPATH/busy --recipe=ce --epoch=1 --batch_size=32 --weights=none"
    of_model = f"--save_path={shlex.quote(str(model))}"
    encode = f"build_image_db {of_model} --runtime=torch --output=busy.npy"
    search = f"process_data.search {of_model} --image={photos} --output=busy.png"
    evaluate = "retrieval.evaluation.run:evaluate_search"
    squares = "process_data.image_matrix --image_info=car_front.csv --mname=busy_images.npy"
    step = "retrieval.training.trainer:Trainer.step"
    forward = "retrieval.model.embedding:EmbeddingModel.forward"
    arch = "--arch=timm/tf_efficientnet_lite0"
    return [
        Watched("train", f"{train} {arch}", step, "images", 32),
        Watched("build_image_db", encode, forward, "images", 8),  # pieces.CPU_PIECE
        Watched("image_matrix", squares, "retrieval.data.decode:load_square", "images", 1),
        Watched("mips", "process_data.mips --device=cpu", evaluate, "comparisons", n_pair, True),
        Watched("nns", "process_data.nns", evaluate, "evaluations", 1, True),
        Watched(
            "page", search, "retrieval.photo_search.query_encoder:QueryEncoder.embed", "photos", 1
        ),
    ]


def rate(spans: Sequence[Sequence[float]], work: float) -> float:
    """Return the work per second of calls, given when each began and ended.

    The first call of several is a warm-up.

    >>> rate([(0, 9), (9, 10), (10, 11)], 32)
    32.0
    """
    if len(spans) == 1:
        return work / (spans[0][1] - spans[0][0])
    ends = sorted(end for _, end in spans)
    return work * (len(ends) - 1) / (ends[-1] - ends[0])


def measure(
    one: Watched,
    data_dir: Path,
    more: Sequence[str],
    cores: Sequence[int],
    seconds: float,
    at: Path,
) -> float:
    """Return the rate of a command of the project in the folder ``at``."""
    name, *options = shlex.split(one.arguments.replace("DPATH", str(data_dir)))
    unset = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    with tempfile.NamedTemporaryFile("r") as report:
        words = [json.dumps(list(cores)), str(seconds), one.function, report.name, name]
        command = [sys.executable, "-c", PROGRAM, *words, f"--dpath={data_dir}", *options, *more]
        done = subprocess.run(command, cwd=at, env=unset, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[3:])}:\n{done.stderr[-2000:]}")
        return rate(json.load(report), one.work)


@contextmanager
def busy_loop(cores: Sequence[int]) -> Iterator[None]:
    """Keep one of the cores busy until the block ends."""
    pin = f"import os; os.sched_setaffinity(0, {list(cores)})"
    with subprocess.Popen([sys.executable, "-c", f"{pin}\n{BUSY}"]) as process:
        try:
            yield
        finally:
            process.kill()


def prepare(dpath: Path, folder: Path, n_row: int, n_query: int) -> tuple[Path, Path, Path]:
    """Return data directories of images and of random embeddings, and a folder of photos."""
    images, rows, photos = (folder / name for name in ("images", "rows", "photos"))
    for path in (images, rows, photos):
        path.mkdir()
    for path in dpath.iterdir():
        if path.is_file() and path.name != layout.CALIBRATION.name:  # of a format of this version
            shutil.copy(path, images / path.name)
    (images / "Image_data").symlink_to((dpath / "Image_data").resolve())
    for number, path in enumerate(sorted((dpath / "Image_data").rglob("*.jpg"))[:200]):
        shutil.copy(path, photos / f"{number}.jpg")
    many_rows.prepare(rows, n_row, n_query, 512)
    for stage in ("make_train_valid --min_len=2", "mask_data"):
        name, *options = stage.split()
        command = [sys.executable, "-m", f"process_data.{name}", f"--dpath={rows}", *options]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return images, rows, photos


def run(args: argparse.Namespace) -> None:
    """Measure all commands and publish the table."""
    record = results.Run("busy", args, args.output)
    cores = sorted(os.sched_getaffinity(0))[: args.threads]
    ways = [("as typed", ROOT, []), (ONE, ROOT, [ONE])]
    if args.before:
        ways.append(("before", args.before, []))
    table: list[results.Row] = []
    with tempfile.TemporaryDirectory() as name:
        images, rows, photos = prepare(args.dpath, Path(name), args.rows, args.n_query)
        n_pair = args.n_query * len(layout.DATABASE_MASKED.load(rows))
        model = args.save_path.resolve()
        for one in watched(model, photos, n_pair):
            if args.only and one.name not in args.only:
                continue
            data_dir, found = rows if one.rows else images, {}
            if one.name == "nns":
                measure(one, data_dir, ["--seed=99"], cores, 0, ROOT)  # compiles
            for number, (way, at, more) in enumerate(ways):
                own = [*more, f"--seed={number}"] if one.name == "nns" else more  # fits again
                found[way, "idle"] = measure(one, data_dir, own, cores, args.seconds, at)
                own = [*more, f"--seed={number + 9}"] if one.name == "nns" else more
                with busy_loop(cores):
                    found[way, "busy"] = measure(one, data_dir, own, cores, args.seconds, at)
            one_core = found[ONE, "idle"]
            for (way, machine), per_second in found.items():
                row = {"stage": one.name, "unit": one.unit, "cores": len(cores), "way": way}
                row |= {"machine": machine, "per_second": per_second}
                table.append({**row, "of_one_free_core": per_second / one_core})
                print(table[-1], flush=True)
    record.publish("busy", table)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--dpath", type=Path, default=Path("demo"), help="the data directory of make demo")
    add("--save_path", type=Path, default=Path("demo/para/model.ep4"), help="its checkpoint")
    add("--before", type=Path, help="a folder with an older version, to measure beside this one")
    add("--rows", type=int, default=30_000, help="random embeddings of mips and nns")
    add("--n_query", type=int, default=1000, help="their queries")
    add("--seconds", type=float, default=4, help="seconds of each measurement")
    add("--only", nargs="+", help="stages to measure; default: all")
    results.add_arguments(parser)
    return parser


if __name__ == "__main__":
    run(make_parser().parse_args())
