"""Time, memory and disk of every stage on samples of growing size.

Writes  pipeline.csv in --output

    python -m benchmarks.pipeline.stages
"""

import argparse
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks import measured_process, results
from benchmarks.pipeline.commands import (
    SECONDS_PER_DRAWING,
    Settings,
    Stage,
    clear,
    draw_sample,
    sizes_of_files,
    stages,
)
from benchmarks.timing import median, spread


def start_seconds(todo: Sequence[Stage], threads: int, repeats: int) -> dict[str, float]:
    """Return the startup seconds of each stage: interpreter, imports, option parsing."""
    return {
        stage.name: median(
            [measured_process.run(stage.help_command, threads).seconds for _ in range(repeats)]
        )
        for stage in todo
    }


def measure(stage: Stage, data_dir: Path, threads: int) -> dict[str, float]:
    """Run one stage; return its time, memory and disk use."""
    before = sizes_of_files(data_dir)
    usage = measured_process.run(stage.command(data_dir), threads)
    after = sizes_of_files(data_dir)
    written = sum(size for path, (_, size) in after.items() if before.get(path) != after[path])
    return {
        "seconds": usage.seconds,
        "cpu_seconds": usage.cpu_seconds,
        "peak_MB": usage.peak_bytes / 1e6,
        "written_MB": written / 1e6,
    }


def chosen(settings: Settings, args: argparse.Namespace) -> list[Stage]:
    return [stage for stage in stages(settings) if not args.stages or stage.name in args.stages]


def measure_all(
    data_dir: Path,
    n_image: int,
    settings: Settings,
    starts: dict[str, float],
    args: argparse.Namespace,
) -> list[dict[str, object]]:
    """Run the whole pipeline ``args.repeats`` times, each time starting from the images."""
    todo = chosen(settings, args)
    found: dict[str, list[dict[str, float]]] = {stage.name: [] for stage in todo}
    for _ in range(args.repeats):
        clear(data_dir)
        for stage in todo:
            found[stage.name].append(measure(stage, data_dir, args.threads))
            print(n_image, stage.name, found[stage.name][-1], flush=True)
    return [
        {
            "images": n_image,
            "stage": stage.name,
            "cores": args.threads,
            "side": settings.side,
            "arch": settings.arch,
            "unit": stage.unit,
            "work": stage.work(data_dir),
            "start_seconds": starts[stage.name],
            **pd.DataFrame(found[stage.name]).median().to_dict(),
            "spread_%": spread([one["seconds"] for one in found[stage.name]]),
        }
        for stage in todo
    ]


def run(args: argparse.Namespace) -> None:
    """Measure all samples and publish the table."""
    logging.basicConfig(level=logging.WARNING)
    record = results.Run("pipeline", args, args.output)
    settings = Settings(args.side, args.arch, args.steps, photos=args.photos)
    with tempfile.TemporaryDirectory() as name:
        folder = args.samples or Path(name)
        rows: list[dict[str, object]] = []
        starts = start_seconds(chosen(settings, args), args.threads, args.repeats)
        for size in args.sizes:
            forecast = size * SECONDS_PER_DRAWING / measured_process.cores()
            print(f"{size} images: drawing them takes about {forecast:.0f} s, once", flush=True)
            sides = args.width, args.height
            n_image = draw_sample(folder / f"sample{size}", size, args.photos, sides)
            rows += measure_all(folder / f"sample{size}", n_image, settings, starts, args)
        record.publish("pipeline", rows)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", default=[1000, 3000, 10_000], help="images per sample")
    add("--photos", type=int, default=60, help="front photos per model")
    add("--stages", nargs="+", help="stages to run, in order; default: all")
    add("--side", type=int, default=64, help="side of the squares in pixels")
    add("--arch", default="resnet18", help="backbone")
    add("--steps", type=int, default=20, help="training steps, the same for all sample sizes")
    add("--width", type=int, default=480, help="width of the photos in pixels")
    add("--height", type=int, default=320, help="height of the photos in pixels")
    add("--repeats", type=int, default=3, help="runs of the whole pipeline")
    add("--samples", type=Path, help="folder to keep the samples in; default: a temporary folder")
    results.add_arguments(parser)
    return parser


if __name__ == "__main__":
    run(make_parser().parse_args())
