"""Encoding photos in shards as tasks of a Ray cluster, compared with the same shards without Ray.

Writes  ray.csv in --output

    python -m benchmarks.encode.ray_tasks

Each method is one command of build_image_db.py, timed from its start to its end, in turns: that
includes the start of Python, of the network and of a Ray cluster with the cores of this machine.
What is measured is what Ray costs; both compute on the same cores.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import measured_process, results, roofline
from benchmarks.data.photo_files import write_photos
from benchmarks.timing import by_turns, median, spread
from retrieval.data import layout
from retrieval.model import checkpoint

ENGINES: tuple[str, ...] = ("local", "ray")
ABOUT: dict[str, Any] = {"domains": [], "split": {}, "held_out": [], "options": {}}
ABOUT |= {"metrics": {}, "frozen_norms": False}
DISTINCT = 256  # photos that are drawn; the index repeats them


def write_index(data_dir: Path, n_image: int, size: tuple[int, int]) -> None:
    """Write photos, and an index that lists them as often as it takes."""
    photos = write_photos(data_dir / "photos", size, min(n_image, DISTINCT))
    names = [photos[row % len(photos)].name for row in range(n_image)]
    table = {"Path": names, "Class": np.zeros(n_image, int), "Index": np.arange(n_image)}
    layout.IMAGE_INDEX.save(data_dir, pd.DataFrame(table))


def timed(
    data_dir: Path, engine: str, args: argparse.Namespace, bytes_of: dict[str, bytes]
) -> float:
    """Return the seconds of one command, and keep its result."""
    command = [sys.executable, "build_image_db.py", f"--dpath={data_dir}"]
    command += [f"--save_path={data_dir / 'model'}", f"--image_info={layout.IMAGE_INDEX.name}"]
    command += ["--image_root_path=photos", f"--image_resolution={args.side}", "--device=cpu"]
    command += [f"--batch_size={args.batch}", f"--shards={args.shards}", f"--engine={engine}"]
    unset = (
        "RAY_ADDRESS",
        *measured_process.THREAD_VARIABLES,
    )  # as typed on a machine without them
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    start = time.perf_counter()
    result = subprocess.run(
        command,
        cwd=measured_process.ROOT,
        env=environment,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    seconds = time.perf_counter() - start
    if result.returncode:
        raise RuntimeError(result.stderr)
    path = layout.DATABASE.at(data_dir)
    bytes_of[engine] = path.read_bytes()
    path.unlink()
    return seconds


def run(args: argparse.Namespace) -> None:
    """Measure both engines in turns and publish the table."""
    record = results.Run("ray", args, args.output)
    bytes_of: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        data_dir = Path(folder)
        write_index(data_dir, args.images, (args.width, args.height))
        model = roofline.make_model(args.network, args.side)
        checkpoint.save(data_dir / "model", model, epoch=0, weights="none", **ABOUT)
        calls = {engine: partial(timed, data_dir, engine, args, bytes_of) for engine in ENGINES}
        seconds = by_turns(calls, args.repeats, warm_up=0)
    local = median(seconds["local"])
    record.publish(
        "ray",
        [
            {
                "network": args.network,
                "side_px": args.side,
                "photos": args.images,
                "shards": args.shards,
                "engine": engine,
                "seconds": median(seconds[engine]),
                "spread_%": spread(seconds[engine]),
                "over_local_%": 100 * (median(seconds[engine]) / local - 1),
                "same_bytes": "yes" if bytes_of[engine] == bytes_of["local"] else "no",
            }
            for engine in ENGINES
        ],
    )


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--network", default="resnet18", help="backbone")
    add("--side", type=int, default=224, help="side of the squares in pixels")
    add("--width", type=int, default=920, help="width of the photos in pixels")
    add("--height", type=int, default=620, help="height of the photos in pixels")
    add("--images", type=int, default=2560, help="photos, of which 256 are distinct")
    add("--shards", type=int, default=8, help="parts")
    add("--batch", type=int, default=64, help="images per batch")
    add("--repeats", type=int, default=2, help="measurements per engine")
    add("--folder", type=Path, help="parent of the temporary folder")
    results.add_arguments(parser)
    return parser


if __name__ == "__main__":
    run(make_parser().parse_args())
