"""Where each stage spends its time, sampled with py-spy.

Writes  profiles.csv in --output, and the table in README.md

    python -m benchmarks.profile_stages
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from benchmarks import processes, results
from benchmarks.stages import Settings, Stage, clear, draw_sample, stages

RATE = 100  # samples per second
OURS = ("compcars/", "process_data/", "retrieval/", "lopq/", "train.py", "build_image_db.py")
IMPORTING = "importlib._bootstrap"


def places(lines: Iterable[str]) -> Counter[str]:
    """Count samples by place: our innermost function, plus the innermost library function.

    Args:
        lines: Lines of py-spy's raw format, ``frame;frame;... count``, outermost frame first; a
            frame is ``function (file:line)``.

    >>> line = "<module> (train.py:3);run (train.py:90);matmul (torch/x.py:5) 12"
    >>> places([line])
    Counter({'train.py run: matmul': 12})
    """
    found: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rstrip().rpartition(" ")
        if stack:
            found[place(stack.split(";"))] += int(count)
    return found


def place(frames: list[str]) -> str:
    """Return the place of one stack; the outermost frame comes first."""
    if any(IMPORTING in frame for frame in frames):
        return "imports"
    own = [i for i, frame in enumerate(frames) if _file(frame).startswith(OURS)]
    if not own:
        return f"{_function(frames[-1])} of {Path(_file(frames[-1])).name}"
    last = own[-1]
    where = f"{_file(frames[last])} {_function(frames[last])}"
    return where if last + 1 == len(frames) else f"{where}: {_function(frames[-1])}"


def _function(frame: str) -> str:
    return frame.rpartition(" (")[0]


def _file(frame: str) -> str:
    path = frame.rpartition(" (")[2].rpartition(":")[0]
    return path.removeprefix(f"{processes.ROOT}/")


def profile(stage: Stage, data_dir: Path, threads: int) -> Counter[str]:
    """Run a stage under py-spy and count its samples by place, without idle threads."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "stacks.txt"
        recorder = Path(sys.executable).with_name("py-spy")
        options = ["record", "--format=raw", f"--rate={RATE}", f"--output={raw}", "--nonblocking"]
        processes.run([str(recorder), *options, "--", *stage.command(data_dir)], threads)
        return places(raw.read_text(encoding="utf-8").splitlines())


def run(args: argparse.Namespace) -> None:
    """Profile all stages and publish the table."""
    record = results.Run("profiles", args, args.output)
    settings = Settings(args.side, args.arch, args.steps, photos=args.photos)
    todo = [stage for stage in stages(settings) if not args.stages or stage.name in args.stages]
    rows: list[results.Row] = []
    with tempfile.TemporaryDirectory() as name:
        data_dir = (args.samples or Path(name)) / f"sample{args.size}"
        draw_sample(data_dir, args.size, args.photos)
        if not args.stages:
            clear(data_dir)  # otherwise a stage may find its work done
        for stage in todo:
            found = profile(stage, data_dir, args.threads)
            n_sample = sum(found.values())
            importing = found.pop("imports", 0)
            row: dict[str, object] = {
                "stage": stage.name,
                "sampled_s": n_sample / RATE,
                "imports": f"{100 * importing / n_sample:.0f} %",
            }
            for rank, (where, count) in enumerate(found.most_common(args.places), start=1):
                row[f"place_{rank}"] = f"{where} ({100 * count / n_sample:.0f} %)"
            rows.append(row)
            print(row, flush=True)
    record.publish("profiles", rows)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--size", type=int, default=3000, help="images in the sample")
    add("--photos", type=int, default=60, help="front photos per model")
    add("--side", type=int, default=64, help="side of the squares in pixels")
    add("--arch", default="resnet18", help="backbone")
    add("--steps", type=int, default=20, help="training steps")
    add("--stages", nargs="+", help="profile only these, on existing files; default: all")
    add("--places", type=int, default=3, help="places to list per stage")
    add("--samples", type=Path, help="folder to keep the sample in; default: a temporary folder")
    results.add_arguments(parser)
    return parser


if __name__ == "__main__":
    run(make_parser().parse_args())
